"""Check adaptive gradient clipping against equation 3 of the paper, in NumPy and float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import training
from keras_vit.training.optimizers.factory import unit_axes

LAMBDA = 0.1
RANDOM = np.random.default_rng(0)


def model_of():
    keras.utils.set_random_seed(1)
    x = image = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = keras.layers.Dense(5, bias_initializer="ones", name="dense")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(3, name="head")(x)
    return keras.Model(image, keras.layers.Activation("softmax")(x))


def clipped(weight, gradient, units):
    """Return the gradient with each unit clipped separately; `units` contains the index of each unit."""
    result = np.array(gradient, "float64")
    for unit in units:
        ratio = np.linalg.norm(result[unit]) / max(np.linalg.norm(weight[unit]), 1e-3)
        if ratio > LAMBDA:
            result[unit] *= LAMBDA / ratio
    return result


UNITS = {
    "conv/kernel": [np.s_[..., output] for output in range(4)],
    "conv/bias": [np.s_[:]],
    "depthwise/kernel": [np.s_[..., channel, output] for channel in range(4) for output in range(2)],
    "depthwise/bias": [np.s_[:]],
    "dense/kernel": [np.s_[:, output] for output in range(5)],
    "dense/bias": [np.s_[:]],
    "head/kernel": [],
    "head/bias": [],
}


def some_gradients(model):
    """Return gradients of which some units exceed the limit and others do not."""
    return [RANDOM.normal(size=v.shape) * np.geomspace(1e-4, 1, v.shape[-1]) for v in model.weights]


def constants(arrays):
    return [tf.constant(array, "float32") for array in arrays]


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_each_unit_is_clipped_by_its_own_norm(accumulation_steps):
    model = model_of()
    before = [np.float64(weight) for weight in model.get_weights()]
    batches = [some_gradients(model) for _ in range(accumulation_steps)]
    optimizer = training.optimizer(
        "sgd", model, 1.0, adaptive_clip=LAMBDA, momentum=0.0, accumulation_steps=accumulation_steps
    )
    for gradients in batches:
        optimizer.apply(constants(gradients), model.trainable_variables)
    kept = []
    for variable, weight, *gradients in zip(model.weights, before, *batches, strict=True):
        # The mean gradient is clipped, not the gradient of each batch.
        gradient = np.mean(gradients, axis=0)
        right = clipped(weight, gradient, UNITS[variable.path])
        np.testing.assert_allclose(weight - np.array(variable), right, atol=1e-5, err_msg=variable.path)
        kept += list(np.isclose(right, gradient).ravel())
        if variable.path.endswith("kernel") and UNITS[variable.path]:
            whole = clipped(weight, gradient, [np.s_[:]])
            assert np.abs(whole - right).max() > 1e-4, "the check must detect clipping of the whole kernel"
    assert 0.1 < np.mean(kept) < 0.9


def test_zero_weights_are_updated_and_zero_gradients_change_nothing():
    model = model_of()
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    optimizer = training.optimizer("sgd", model, 1.0, adaptive_clip=LAMBDA, momentum=0.0)
    gradients = [tf.fill(variable.shape, float(index % 2)) for index, variable in enumerate(model.weights)]
    optimizer.apply(gradients, model.trainable_variables)
    for index, (variable, weight) in enumerate(zip(model.weights, model.get_weights(), strict=True)):
        if index % 2 == 0:
            np.testing.assert_array_equal(weight, 0)
        elif not variable.path.startswith("head"):
            assert np.linalg.norm(weight) == pytest.approx(LAMBDA * 1e-3, rel=1e-4)


SMALL = {"input_shape": (32, 32, 3), "width": 24, "depth": 1, "num_heads": 3}


@pytest.mark.parametrize(
    "name, settings, heads",
    [
        ("EfficientViT_M0", {"input_shape": (64, 64, 3)}, {"head"}),
        ("DeiT", {"distilled": True, **SMALL}, {"head", "head_dist"}),
        ("ViT", {"include_top": False, **SMALL}, set()),
    ],
)
def test_the_classifier_is_not_clipped(name, settings, heads):
    model = getattr(keras_vit, name)(**settings)
    axes = dict(zip((v.path for v in model.trainable_variables), unit_axes(model), strict=True))
    assert {path.split("/")[0] for path, over in axes.items() if over is None} == heads
    if name == "DeiT":
        assert axes["position_embedding/table"] == (0, 1, 2)
        assert {over for path, over in axes.items() if "block_0" in path and path.endswith("kernel")} == {(0,)}


def test_clipping_settings_are_saved_with_the_model(tmp_path):
    model = model_of()
    model.compile(training.optimizer("adamw", model, 0.1, adaptive_clip=LAMBDA), "mse")
    model.save(tmp_path / "model.keras")
    optimizer = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert optimizer.adaptive_clip == LAMBDA and optimizer.clip_axes == tuple(unit_axes(model))
    assert optimizer.clip_axes[:3] == ((0, 1, 2), (0,), (0, 1))


def test_invalid_settings_are_rejected():
    model = model_of()
    with pytest.raises(ValueError, match="adaptive_clip must be above 0; received 0"):
        training.optimizer("sgd", model, 0.1, adaptive_clip=0)
    with pytest.raises(ValueError, match="clip_axes has 1 entries, but the model has 8"):
        training.SGD(0.1, adaptive_clip=0.1, clip_axes=[(0,)]).build(model.trainable_variables)
