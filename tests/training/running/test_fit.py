import csv
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism, is_op_determinism_enabled

from keras_vit import training
from keras_vit.models.image_facts import UNIT
from tests.training.tiny import SETTINGS, build_model

STEPS = 19


def run_program(*arguments):
    program = Path(__file__).parents[1] / "tiny.py"
    return subprocess.run([sys.executable, program, *map(str, arguments)], capture_output=True, text=True)


def state(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def differences(ours, theirs):
    return [index for index, pair in enumerate(zip(ours, theirs, strict=True)) if not np.array_equal(*pair)]


@pytest.fixture(scope="module")
def data():
    return training.digits(statistics=UNIT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    """Train without interruption, and return the folder, the result and the final state."""
    model = build_model()
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    result = training.fit(model, data, run_dir=run_dir, **SETTINGS)
    return run_dir, result, state(model)


def test_the_folder_of_a_run_contains_its_log_best_model_and_settings(whole, data):
    run_dir, result, _ = whole
    assert sorted(path.name for path in run_dir.iterdir()) == [
        "best.keras",
        "checkpoint.safetensors",
        "log.csv",
        "run.json",
        "run.lock",
        "tensorboard",
    ]
    with open(run_dir / "log.csv") as file:
        lines = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in line.items()} for line in lines] == result.history
    assert [line["epoch"] for line in result.history] == [1, 2, 3]
    assert result.history[2]["loss"] < result.history[0]["loss"]

    best = max(result.history, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    model = keras.models.load_model(result.best_model)
    measured = model.evaluate(data.validation, verbose=0, return_dict=True)
    assert measured["accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert measured["loss"] == pytest.approx(best["val_loss"], rel=1e-5)

    run = json.loads((run_dir / "run.json").read_text())
    assert run["settings"]["learning_rate"] == 1e-2 and run["settings"]["seed"] == 0
    assert run["settings"]["data"] == data.settings
    assert run["versions"]["keras"] == keras.__version__ and run["versions"]["tensorflow"] == tf.__version__


def test_every_epoch_is_logged_to_tensorboard(whole):
    run_dir, result, _ = whole
    logged = {}
    for path in (run_dir / "tensorboard").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                logged[event.step, value.tag] = float(tf.make_ndarray(value.tensor))
    for line in result.history:
        for name in line.keys() - {"epoch"}:
            assert logged[line["epoch"], name] == pytest.approx(line[name], rel=1e-6)


def test_a_killed_run_resumes_in_another_process_to_the_same_result(whole, tmp_path):
    whole_dir, _, whole_state = whole
    run_dir, weights = tmp_path / "run", tmp_path / "weights.npz"
    killed = run_program(run_dir, "--kill-at", STEPS + 7)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with safetensors.safe_open(run_dir / "checkpoint.safetensors", framework="numpy") as file:
        header = json.loads(file.metadata()["keras_vit.training"])
    assert (header["epoch"], header["step"]) == (1, 4)

    resumed = run_program(run_dir, "--resume", "--weights", weights)
    assert resumed.returncode == 0, resumed.stderr
    with np.load(weights) as file:
        assert differences(whole_state, [file[name] for name in file.files]) == []
    assert (run_dir / "log.csv").read_text() == (whole_dir / "log.csv").read_text()
    assert (run_dir / "run.json").read_text() == (whole_dir / "run.json").read_text()
    best, whole_best = (keras.models.load_model(path / "best.keras") for path in (run_dir, whole_dir))
    assert differences(best.get_weights(), whole_best.get_weights()) == []


def test_another_seed_gives_another_result(whole, data, tmp_path):
    model = build_model()
    training.fit(model, data, run_dir=tmp_path / "run", seed=1, **SETTINGS)
    assert differences(whole[2], state(model))


def test_a_checkpoint_contains_random_states_statistics_and_metrics(data, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 9:
                raise KeyboardInterrupt

    model = build_model()
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, data, run_dir=tmp_path / "run", callbacks=[Stop()], **SETTINGS)
    tensors = safetensors.numpy.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert [value[1] for key, value in tensors.items() if "seed_generator" in key] == [8, 8]
    assert any("moving_variance" in key for key in tensors)
    assert next(value for key, value in tensors.items() if key.endswith("loss/count")) == 8 * 64


def test_resuming_a_finished_run_returns_its_result(whole, data):
    run_dir, result, whole_state = whole
    before = {path: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}
    model = build_model()
    again = training.fit(model, data, run_dir=run_dir, resume=True, **SETTINGS)
    assert again.history == result.history
    assert differences(whole_state, state(model)) == []
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_is_not_resumed_with_other_settings(whole, data):
    run_dir, _, _ = whole
    before = (run_dir / "checkpoint.safetensors").read_bytes()
    for changed, message in [
        ({"learning_rate": 0.5}, "learning_rate was 0.01 and is now 0.5"),
        ({"epochs": 9}, "epochs was 3 and is now 9"),
        ({"seed": 4}, "seed was 0 and is now 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            training.fit(build_model(), data, run_dir=run_dir, resume=True, **{**SETTINGS, **changed})
    with pytest.raises(ValueError, match=r"data was.*'batch_size': 64.*'batch_size': 32"):
        training.fit(
            build_model(), training.digits(batch_size=32, statistics=UNIT), run_dir=run_dir, resume=True, **SETTINGS
        )
    assert (run_dir / "checkpoint.safetensors").read_bytes() == before


def test_a_folder_with_a_run_is_not_overwritten(whole, data):
    with pytest.raises(FileExistsError, match="not empty; pass resume=True"):
        training.fit(build_model(), data, run_dir=whole[0], **SETTINGS)


def test_resuming_without_a_checkpoint_is_an_error(data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no checkpoint\.safetensors to resume"):
        training.fit(build_model(), data, run_dir=tmp_path / "nothing", resume=True, **SETTINGS)
    assert not (tmp_path / "nothing").exists()


def test_missing_tensorboard_is_reported_before_anything_is_written(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r'pip install "keras-vit\[train\]"'):
        training.fit(build_model(), data, run_dir=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_reported(data, tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match="not a training checkpoint or is damaged"):
        training.fit(build_model(), data, run_dir=tmp_path, resume=True, **SETTINGS)


def test_a_folder_that_cannot_be_created_is_reported(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/run can't be used as run_dir \(Not a directory\)"):
        training.fit(build_model(), data, run_dir=tmp_path / "file" / "run", **SETTINGS)


def spoilt_from(data, epoch, step):
    def train(current, skip_steps=0):
        batches = data.train(current, skip_steps).enumerate(skip_steps)
        bad = current == epoch
        return batches.map(lambda i, xy: (xy[0], tf.where(bad & (i >= step), np.nan, xy[1])))

    return dataclasses.replace(data, train=train)


def test_a_nan_loss_stops_training_and_keeps_valid_files(data, tmp_path):
    with pytest.raises(FloatingPointError, match=r"loss is nan at epoch 2, step 7, .* learning rate 0\.00"):
        training.fit(build_model(), spoilt_from(data, 1, 6), run_dir=tmp_path / "run", **SETTINGS)
    tensors = safetensors.numpy.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert next(value for key, value in tensors.items() if key.endswith("/iteration")) == STEPS + 4
    best = keras.models.load_model(tmp_path / "run" / "best.keras")
    assert all(np.isfinite(weight).all() for weight in best.get_weights())


def test_nan_weights_are_not_saved_even_if_the_loss_is_finite(data, tmp_path):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(image)
    # The square root of zero is finite, but its derivative is infinite; multiplied by zero, it becomes NaN.
    x = keras.layers.Dense(10)(x) + keras.ops.sqrt(keras.layers.Dense(10)(x) * 0.0)
    model = keras.Model(image, keras.layers.Softmax()(x))
    with pytest.raises(FloatingPointError, match="no longer finite after epoch 0, step 1"):
        training.fit(model, data, run_dir=tmp_path / "run", **{**SETTINGS, "checkpoint_steps": 1})
    assert not all(np.isfinite(weight).all() for weight in model.get_weights())
    tensors = safetensors.numpy.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert not (tmp_path / "run" / "best.keras").exists()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_resumes(data, tmp_path, dtype):
    short = dataclasses.replace(
        data, steps_per_epoch=3, train=lambda epoch, skip=0: data.train(epoch, skip).take(3 - skip)
    )

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                raise KeyboardInterrupt

    settings = {**SETTINGS, "epochs": 1, "checkpoint_steps": 1}
    model = build_model(dtype=dtype)
    before = model.get_weights()
    training.fit(model, short, run_dir=tmp_path / "whole", **settings)
    assert differences(before, model.get_weights())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "mixed_float16")

    with pytest.raises(KeyboardInterrupt):
        training.fit(build_model(dtype=dtype), short, run_dir=tmp_path / "run", callbacks=[Stop()], **settings)
    tensors = safetensors.numpy.load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert any(key.endswith("dynamic_scale") for key in tensors) == (dtype == "mixed_float16")
    resumed = build_model(dtype=dtype)
    training.fit(resumed, short, run_dir=tmp_path / "run", resume=True, **settings)
    assert differences(state(model), state(resumed)) == []
    assert (
        differences(*([keras.ops.convert_to_numpy(v) for v in m.optimizer.variables] for m in (model, resumed))) == []
    )


def test_the_model_must_return_one_score_per_class(data, tmp_path):
    with pytest.raises(ValueError, match=r"10 classes.*\(1, 10\); it returns \(1, 7\)"):
        training.fit(build_model(classes=7), data, run_dir=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()


def test_the_model_must_accept_the_shape_of_the_images(data, tmp_path):
    with pytest.raises(ValueError, match=r"does not take images of shape \(8, 8, 1\): .*16, 16, 1"):
        training.fit(build_model(size=16), data, run_dir=tmp_path / "run", **SETTINGS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"label_smoothing": 1.0}, "1.0"),
        ({"checkpoint_steps": 0}, "every_steps=0"),
    ],
)
def test_settings_out_of_range_are_rejected(data, tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        training.fit(build_model(), data, run_dir=tmp_path / "run", **{**SETTINGS, **changed})


def test_logits_and_probabilities_are_distinguished():
    features = keras.Input((4,))
    dense = keras.layers.Dense(3)(features)
    for scores, logits in [
        (dense, True),
        (keras.layers.Activation("linear")(dense), True),
        (keras.layers.Dense(3, activation="softmax")(features), False),
        (keras.layers.Softmax()(dense), False),
        (keras.ops.softmax(dense), False),
        (keras.layers.Activation("softmax", dtype="float32")(dense), False),
    ]:
        model = keras.Model(features, scores)
        assert training.gives_logits(model) is logits
        assert training.gives_logits(keras.Sequential([features, model])) is logits

    class Softmax(keras.layers.Layer):
        """A user's own layer of that name, which doubles its input."""

        def call(self, inputs):
            return 2 * inputs

    for scores in (keras.layers.Activation("sigmoid")(dense), keras.ops.relu(dense), Softmax()(dense)):
        with pytest.raises(ValueError, match="pass from_logits"):
            training.gives_logits(keras.Model(features, scores))


def test_training_on_logits_and_on_probabilities_gives_the_same_loss(data, tmp_path):
    settings = {**SETTINGS, "epochs": 1}
    losses = [
        training.fit(build_model(activation=name), data, run_dir=tmp_path / name, **settings).history[0]["loss"]
        for name in ("linear", "softmax")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_subclassed_model_trains(data, tmp_path):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(10)

        def call(self, images):
            return self.dense(self.flatten(images))

    with pytest.raises(ValueError, match="pass from_logits"):
        training.fit(Subclassed(), data, run_dir=tmp_path / "run", **SETTINGS)
    result = training.fit(Subclassed(), data, run_dir=tmp_path / "run", from_logits=True, **SETTINGS)
    assert result.history[-1]["val_accuracy"] > 0.5


def test_user_callbacks_see_a_single_training_run(data, tmp_path):
    class Count(keras.callbacks.Callback):
        seen = []

        def on_train_begin(self, logs=None):
            self.seen.append("begin")

        def on_epoch_begin(self, epoch, logs=None):
            self.seen.append(epoch)

        def on_train_batch_end(self, batch, logs=None):
            self.last = batch

        def on_train_end(self, logs=None):
            self.seen.append("end")

    count = Count()
    stop = keras.callbacks.EarlyStopping(monitor="loss", mode="max", patience=1)
    training.fit(build_model(), data, run_dir=tmp_path / "run", callbacks=[count, stop], **SETTINGS)
    assert count.seen == ["begin", 0, 1, "end"] and count.last == STEPS - 1


@pytest.mark.parametrize("before", [False, True])
def test_determinism_is_restored_after_training(data, tmp_path, before):
    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert is_op_determinism_enabled()
            raise KeyboardInterrupt

    assert not is_op_determinism_enabled()
    if before:
        tf.config.experimental.enable_op_determinism()
    try:
        with pytest.raises(KeyboardInterrupt):
            training.fit(build_model(), data, run_dir=tmp_path / "run", callbacks=[Seen()], **SETTINGS)
        assert is_op_determinism_enabled() is before
    finally:
        disable_op_determinism()


def test_random_operations_need_no_seed_after_training(whole):
    # With determinism enabled and no seed, TensorFlow raises an error.
    tf.random.set_seed(None)
    assert np.isfinite(tf.random.normal(())) and not is_op_determinism_enabled()
