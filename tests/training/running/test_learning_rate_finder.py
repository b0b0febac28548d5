import json
import random
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import training
from tests.training.tiny import build_model

# Runs in its own process, because the number of devices can't be changed after the first operation.
REPLICAS = """
import sys, keras, tensorflow as tf
sys.path.insert(0, {root!r})
from keras_vit import training
from tests.training.running.test_learning_rate_finder import compiled, state
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        model = compiled(training.Cosine(1e-3, 100), noisy=False)
    before = state(model)
    result = training.find_learning_rate(model, training.digits(augment=False), steps=20, lowest=1e-4, highest=0.1)
    print(*result.losses, state(model)[:len(before)] == before)
"""


def compiled(rate, name="adamw", noisy=True, **settings):
    model = build_model()
    if not noisy:  # Replicas would draw different noise.
        model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    optimizer = training.optimizer(name, model, rate, weight_decay=0.05, **settings)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    return model


def state(model):
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables]


@pytest.fixture(scope="module")
def data():
    return training.digits(batch_size=256, statistics=training.Statistics(0.0, 1.0))


@pytest.mark.parametrize("scheduled", [True, False])
def test_all_state_is_restored(data, scheduled):
    model = compiled(training.Cosine(1e-2, 100) if scheduled else 1e-2, ema_decay=0.9)
    model.fit(data.train(0), verbose=0)
    before, python, numpy = state(model), random.getstate(), np.random.get_state()[1].tobytes()
    names = [variable.path for variable in model.optimizer.variables]
    rate = model.optimizer.learning_rate
    result = training.find_learning_rate(model, data.train(0), steps=12, lowest=1e-4, highest=1e-1)
    assert len(result.losses) == 12
    assert state(model) == before
    assert [variable.path for variable in model.optimizer.variables] == names
    assert float(model.optimizer.learning_rate) == float(rate)
    assert random.getstate() == python and np.random.get_state()[1].tobytes() == numpy

    # Training continues as if the test had not been run.
    other = compiled(training.Cosine(1e-2, 100) if scheduled else 1e-2, ema_decay=0.9)
    for epoch in (0, 1):
        other.fit(data.train(epoch), verbose=0)
    model.fit(data.train(1), verbose=0)
    assert state(model) == state(other) != before


def test_losses_match_training_at_these_rates(data):
    rates = np.geomspace(1e-3, 1.0, 8)
    model, other = compiled(1e-3, noisy=False), compiled(1e-3, noisy=False)
    result = training.find_learning_rate(model, data.train(0), lowest=1e-3, highest=1.0, steps=8)
    np.testing.assert_allclose(result.rates, rates)
    expected = []
    for rate, (images, labels) in zip(rates, data.train(0).repeat(), strict=False):
        other.optimizer.learning_rate = rate
        other.reset_metrics()
        expected.append(float(other.train_on_batch(images, labels)[0]))
    np.testing.assert_allclose(result.losses, expected, rtol=1e-5)
    assert np.ptp(expected) > 0.1


def test_accumulated_batches_count_as_one_update(data):
    model = compiled(1e-3, noisy=False, accumulation_steps=2)
    result = training.find_learning_rate(model, data.train(0), lowest=1e-9, highest=1e-8, steps=2)
    batches = list(data.train(0))
    losses = [float(model.test_on_batch(*batch)[0]) for batch in batches[:4] if model.reset_metrics() is None]
    np.testing.assert_allclose(result.losses, [np.mean(losses[:2]), np.mean(losses[2:])], rtol=1e-5)


def test_the_test_stops_when_the_loss_diverges(data, tmp_path):
    model = compiled(1e-3, "sgd", noisy=False)
    result = training.find_learning_rate(model, data, highest=1e6, steps=60)
    assert result.diverged and len(result.losses) < 60 and "diverged" in str(result)
    assert np.isfinite(result.losses).all()
    assert result.smoothed[-1] > 4 * min(result.smoothed)
    # The loss is lowest at ten times the suggested rate, and training with the suggested rate reduces the loss.
    assert result.suggestion == pytest.approx(result.rates[int(np.argmin(result.smoothed))] / 10)
    model.optimizer.learning_rate = result.suggestion
    history = model.fit(data.epochs(), steps_per_epoch=data.steps_per_epoch, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]

    folder = result.save(tmp_path / "found")
    assert json.loads((folder / "learning_rate.json").read_text()) == result.to_dict()
    assert sorted(path.name for path in folder.iterdir()) == ["learning_rate.json", "learning_rate.png"]


def test_smoothing_is_a_weighted_mean_and_an_increasing_loss_gives_no_suggestion():
    rates = (0.1, 0.2, 0.4, 0.8)
    flat = training.RangeTest(rates, (2.0, 2.0, 2.0, 2.0), 0.9, False)
    np.testing.assert_allclose(flat.smoothed, 2.0)
    rising = training.RangeTest(rates, (1.0, 2.0, 3.0, 4.0), 0.5, False)
    # The losses up to this one have the weights 1/2, 1/4, ..., normalized to a sum of 1.
    np.testing.assert_allclose(rising.smoothed[2], (4 * 3 + 2 * 2 + 1) / 7)
    assert rising.suggestion is None and "No rate is suggested" in str(rising)
    falling = training.RangeTest(rates, (3.0, 2.0, 1.0, 9.0), 0.0, False)
    assert falling.suggestion == pytest.approx(0.04)


def test_state_is_restored_after_an_error(data):
    model = compiled(training.Cosine(1e-2, 100))
    before = state(model)

    def broken():
        yield from data.train(0).take(3)
        raise OSError("disk gone")

    batches = tf.data.Dataset.from_generator(broken, output_signature=data.train(0).element_spec)
    with pytest.raises(tf.errors.UnknownError, match="disk gone"):
        training.find_learning_rate(model, batches, steps=10)
    assert state(model)[: len(before)] == before  # The rest are new metrics.
    assert float(model.optimizer.learning_rate) == float(training.Cosine(1e-2, 100)(0))


def test_replicas_measure_the_same_losses():
    root = str(Path(__file__).parents[3])
    result = subprocess.run([sys.executable, "-c", REPLICAS.format(root=root)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = (line.split() for line in result.stdout.splitlines()[-2:])
    assert one[-1] == two[-1] == "True"
    np.testing.assert_allclose(np.float64(one[:-1]), np.float64(two[:-1]), rtol=1e-5)


def test_invalid_settings_are_rejected(data):
    model = compiled(1e-3)
    for wrong in ({"lowest": 0}, {"lowest": 20.0}, {"steps": 1}, {"smoothing": 1.0}, {"divergence": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
            training.find_learning_rate(model, data, **wrong)
    with pytest.raises(ValueError, match="is not compiled"):
        training.find_learning_rate(build_model(), data)
    with pytest.raises(TypeError, match="received ndarray"):
        training.find_learning_rate(model, np.zeros((4, 8, 8, 1)))
    with pytest.raises(ValueError, match="no batches"):
        training.find_learning_rate(model, data.train(0).take(0))
    with pytest.raises(ValueError, match="The loss is nan before the first update"):
        training.find_learning_rate(model, data.train(0).map(lambda x, y: (x, y * np.nan)))
