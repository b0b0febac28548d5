import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import edge, training

NAMES = ["adafactor", "adamw", "lamb", "lars", "lion", "sgd", "soap"]


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.LayerNormalization()])

    class Embedded(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(name="table", shape=(1, 2, 3), initializer="ones")

        def call(self, inputs):
            return inputs + self.table[:, 0]

    for name in ("position_embedding", "class_token_1", "other"):
        model.add(Embedded(name=name))
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    return model


def test_weight_decay_applies_to_kernels_only(model):
    optimizer = training.optimizer("adamw", model, 0.1, weight_decay=0.5)
    optimizer.apply([keras.ops.zeros_like(v) for v in model.trainable_variables], model.trainable_variables)
    highest = {variable.path: float(keras.ops.max(variable)) for variable in model.trainable_variables}
    decayed = {path: value for path, value in highest.items() if value != 1}
    assert sorted(path.split("/")[-1] for path in decayed) == ["kernel", "table"]
    assert any("other" in path for path in decayed)
    np.testing.assert_allclose(list(decayed.values()), 1 - 0.1 * 0.5, rtol=1e-6)


def test_the_learning_rate_follows_the_schedule(model):
    optimizer = training.optimizer("adamw", model, training.Cosine(0.2, 100, 20))
    received = []
    for step in (0, 5, 20, 60, 99, 100):
        optimizer.iterations.assign(step)
        received.append(float(optimizer.learning_rate))
    expected = [0, 0.05] + [0.1 * (1 + math.cos(math.pi * done)) for done in (0, 0.5, 79 / 80, 1)]
    np.testing.assert_allclose(received, expected, atol=1e-7)


def test_without_warm_up_the_first_step_uses_the_highest_rate(model):
    assert float(training.optimizer("adamw", model, training.Cosine(0.2, 100)).learning_rate) == pytest.approx(0.2)


def test_gradients_are_clipped_by_their_global_norm(model):
    optimizer = training.optimizer("adamw", model, 0.1, clip_norm=0.5)
    gradients = [keras.ops.full(v.shape, 100.0) for v in model.trainable_variables]
    optimizer.apply(gradients, model.trainable_variables)
    first_moments = [v for v in optimizer.variables if "momentum" in v.path]
    norm = math.sqrt(sum(float(keras.ops.sum(v**2)) for v in first_moments))
    assert norm == pytest.approx((1 - optimizer.beta_1) * 0.5, rel=1e-4)


def test_invalid_settings_are_rejected(model):
    for settings, message in [
        ({"name": "adam"}, "no optimizer 'adam'; choose one of 'adafactor', 'adamw', .*'soap'"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1; received 0.0"),
        ({"accumulation_steps": 0}, "accumulation_steps=0"),
        ({"ema_decay": 1.0}, "below 1; received 1.0"),
        ({"use_ema": True}, "Use ema_decay instead of use_ema"),
        ({"gradient_accumulation_steps": 4}, "Use accumulation_steps instead of gradient_accumulation_steps"),
    ]:
        with pytest.raises(ValueError, match=message):
            training.optimizer(**{"name": "adamw", "model": model, "learning_rate": 0.1, **settings})
    with pytest.raises(ValueError, match="no variables yet"):
        training.optimizer("lamb", keras.Sequential([keras.layers.Dense(3)]), 0.1)


def test_an_optimizer_of_another_model_is_rejected(model):
    optimizer = training.optimizer("adamw", model, 0.1)
    model.layers[0].trainable = False
    with pytest.raises(ValueError, match="has 7 entries, but the model has 5 trainable variables"):
        optimizer.build(model.trainable_variables)


def tiny_vit(**settings):
    return keras_vit.ViT(classes=3, input_shape=(8, 8, 3), patch_size=4, width=8, depth=3, num_heads=2, **settings)


def by_layer(model):
    depths = {}
    for variable, depth in zip(model.trainable_variables, training.layer_depths(model), strict=True):
        depths.setdefault(variable.path.split("/")[0].split(".")[0], set()).add(depth)
    return depths


def test_depths_increase_from_the_embedding_to_the_head():
    vit = {
        "patch_embedding": {0},
        "class_token": {0},
        "position_embedding": {0},
        "block_0": {1},
        "block_1": {2},
        "block_2": {3},
        "norm": {4},
        "head": {4},
    }
    model = tiny_vit(layer_scale=1e-4)
    assert by_layer(model) == vit
    # The same model nested with another classifier, flattened, and with quantization-aware training.
    whole = keras.Sequential([tiny_vit(include_top=False, pooling="token"), keras.layers.Dense(2, name="head")])
    assert training.layer_depths(whole) == training.layer_depths(tiny_vit())
    assert by_layer(keras_vit.flatten(model)) == vit
    images = np.zeros((2, 8, 8, 3), "float32")
    assert by_layer(edge.quantize_aware(model, calibration_data=images)).items() >= vit.items()


def test_in_a_model_without_blocks_each_layer_has_its_own_depth():
    model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4) for _ in range(3))])
    assert training.layer_depths(model) == [1, 1, 2, 2, 3, 3]


def test_a_variable_outside_all_layers_is_an_error():
    class Outside(keras.Model):
        def __init__(self):
            super().__init__()
            self.offset = self.add_weight(name="offset", shape=())
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x) + self.offset

    model = Outside()
    model(np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"offset of .* belongs to none of its layers"):
        training.layer_depths(model)


def test_layer_decay_matches_beit():
    model = tiny_vit()
    optimizer = training.optimizer("adamw", model, 1.0, layer_decay=0.5)
    factors = dict(zip([v.path for v in model.trainable_variables], optimizer.learning_rate_factors, strict=True))
    assert factors["patch_embedding/projection/kernel"] == 0.5**4
    assert factors["block_0/attention/query/kernel"] == 0.5**3
    assert factors["block_2/mlp/contract/bias"] == 0.5
    assert factors["norm/gamma"] == factors["head/kernel"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_continues_training_identically(name, tmp_path):
    images, labels = (
        np.random.default_rng(0).normal(size=(12, 5)).astype("float32"),
        np.eye(4, dtype="float32")[[0] * 12],
    )
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5), keras.layers.Dense(4)])
    optimizer = training.optimizer(
        name,
        model,
        training.Cosine(0.1, 100),
        weight_decay=0.5,
        layer_decay=0.5,
        clip_norm=1.0,
        accumulation_steps=2,
        ema_decay=0.9,
    )
    model.compile(optimizer, "mse")
    for _ in range(3):
        model.train_on_batch(images, labels)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(optimizer)
    assert json.dumps(loaded.optimizer.get_config()) == json.dumps(optimizer.get_config())
    for _ in range(3):
        model.train_on_batch(images, labels)
        loaded.train_on_batch(images, labels)
    for ours, theirs in zip(
        model.variables + optimizer.variables, loaded.variables + loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # Biases are still excluded from weight decay, and the first layer still uses half the learning rate.
    assert loaded.optimizer.weight_decay_factors == (1, 0, 1, 0)
    assert loaded.optimizer.learning_rate_factors == (0.5, 0.5, 1, 1)


def test_an_optimizer_works_within_a_loss_scale_optimizer(model):
    optimizer = keras.optimizers.LossScaleOptimizer(
        training.optimizer("lamb", model, 0.1, accumulation_steps=2, ema_decay=0.9), initial_scale=8.0
    )
    plain = training.optimizer("lamb", model, 0.1)
    before = model.get_weights()
    results = []
    for each, scale in ((optimizer, 8.0), (plain, 1.0)):
        model.set_weights(before)
        gradients = [scale * tf.ones(v.shape) for v in model.trainable_variables]
        each.build(model.trainable_variables)
        step = tf.function(each.apply)
        for _ in range(2 if each is optimizer else 1):
            step(gradients)
        results.append(model.get_weights())
    for scaled, right in zip(*results, strict=True):
        np.testing.assert_allclose(scaled, right, rtol=1e-6)
    # An infinite gradient only changes the loss scale.
    optimizer.apply([v * np.inf for v in model.trainable_variables], model.trainable_variables)
    np.testing.assert_array_equal(model.get_weights()[0], results[1][0])
    assert float(optimizer.dynamic_scale) == 4.0
