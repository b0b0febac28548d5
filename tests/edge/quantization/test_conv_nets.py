"""Convolutional networks in int8: what lies between products is int8 too, and the file gives the model's outputs."""

import keras
import numpy as np
import pytest

from keras_vit import edge
from keras_vit.edge.quantization.fake_quant import FakeQuant
from keras_vit.edge.quantization.plan import SIGMOID_GRID
from keras_vit.layers import ConvNorm

IMAGES = np.random.default_rng(0).normal(size=(16, 16, 16, 3)).astype("float32")


def network(middle):
    """Return a strided stem, what `middle` adds to it, and a classifier, with random weights and batch statistics."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = middle(ConvNorm(8, 3, strides=2, name="stem")(image))
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(ConvNorm(12, name="last")(x))
    model = keras.Model(image, keras.layers.Dense(4, name="head")(x))
    random = np.random.default_rng(1)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(random.normal(size=variable.shape) * 0.1)
    return model


def in_a_row(x):
    x = ConvNorm(16, 3, strides=2, activation="relu")(x)
    x = keras.layers.ReLU(6.0)(ConvNorm(16, 3)(x))
    x = ConvNorm(16, 1, groups=4)(x)
    return ConvNorm(16, 3, activation="silu")(x)


def residual(x):
    # Keras names these layers "add", "add_1", and "add_2"; they can be told apart in the file all the same.
    x = keras.layers.Add()([x, ConvNorm(8, 3)(x)])
    x = keras.layers.Add()([x, ConvNorm(8, 3, depthwise=True, input_channels=8)(x)])
    return keras.layers.ReLU()(keras.layers.Add()([x, ConvNorm(8, 3)(x)]))


def gated(x):
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Activation("sigmoid")(ConvNorm(8, norm=False, use_bias=True)(gate))
    return keras.layers.Multiply()([x, gate])


def gated_pixel(x):
    """A gate from the mean of a map of one pixel. The converter leaves out this mean, but not the one at the end."""
    return gated(ConvNorm(8, 8, strides=8)(x))


def concatenated(x):
    return keras.layers.Concatenate()([x, ConvNorm(8, 3, activation="relu")(x), ConvNorm(4)(x)])


@pytest.mark.parametrize("middle", [in_a_row, residual, gated, gated_pixel, concatenated])
def test_the_whole_network_is_int8_and_gives_the_outputs_of_the_model(middle, tmp_path):
    model = network(middle)
    quantized = edge.quantize_aware(model, calibration_data=IMAGES)
    file = edge.export(quantized, tmp_path / "model.tflite")
    audit = edge.audit(file)
    assert audit.partitions == 1 and audit.findings == []
    # Input and output are float; a concatenation converts its inputs to its own grid.
    assert audit.ops["DEQUANTIZE"] == 1
    assert audit.ops["QUANTIZE"] <= (4 if middle is concatenated else 1)
    result = edge.verify(quantized, file, IMAGES)
    assert result.snr_db > 30
    # The float model differs more: the file reproduces the rounding, not only the function.
    assert edge.verify(model, file, IMAGES).snr_db < result.snr_db - 1.5


def test_a_sigmoid_has_the_grid_of_the_runtime():
    values = np.linspace(-0.2, 1.2, 101, dtype="float32") + 1e-4  # Not in the middle between two steps.
    expected = np.clip(np.round(values * 256), 0, 255) / 256
    np.testing.assert_allclose(FakeQuant(**vars(SIGMOID_GRID))(values), expected, atol=1e-7)


def test_the_input_of_float_layers_stays_in_float(tmp_path):
    def middle(x):
        tokens = keras.layers.Add(name="stream")([x, ConvNorm(8, name="branch")(x)])
        normed = keras.layers.LayerNormalization(name="norm")(tokens)
        return keras.layers.Add(name="sum")([tokens, normed])

    quantized = edge.quantize_aware(network(middle), calibration_data=IMAGES)
    grids = {layer.name for layer in quantized.layers if isinstance(layer, FakeQuant)}
    assert "branch.conv.fake_quant" in grids and "stream.fake_quant" not in grids
    file = edge.export(quantized, tmp_path / "model.tflite", "hybrid_int8")
    assert edge.verify(quantized, file, IMAGES).snr_db > 30


def test_a_model_with_int8_between_its_products_trains_saves_and_loads(tmp_path):
    quantized = edge.quantize_aware(network(gated), calibration_data=IMAGES)
    quantized.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = quantized.fit(IMAGES, np.arange(16) % 4, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), quantized(IMAGES))
    file = edge.export(loaded, tmp_path / "model.tflite")
    assert edge.verify(quantized, file, IMAGES).snr_db > 30


class Own(keras.layers.Layer):
    """A user's layer that computes."""

    def call(self, inputs):
        return keras.ops.square(inputs) + 1


@keras.saving.register_keras_serializable("tests")
class Fold(Own):
    """It has the name of a layer of keras_vit that only moves values."""


@keras.saving.register_keras_serializable("tests")
class Reshape(Own):
    """It has the name of a layer of Keras that only moves values."""


def test_a_users_layer_is_not_taken_for_another_of_its_name(tmp_path):
    model = network(lambda x: Reshape(name="reshape")(ConvNorm(8, 3)(Fold(name="fold")(ConvNorm(8, 3)(x)))))
    quantized = edge.quantize_aware(model, calibration_data=IMAGES)
    # The layers compute in float, so their outputs have ranges of their own.
    grids = {layer.name for layer in quantized.layers if isinstance(layer, FakeQuant)}
    assert {"fold.fake_quant", "reshape.fake_quant"} <= grids
    file = edge.export(quantized, tmp_path / "model.tflite")
    assert edge.verify(quantized, file, IMAGES).snr_db > 30
