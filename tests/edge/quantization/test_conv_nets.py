"""Convolutional networks in int8: what lies between products stays int8 too, and the file gives the same answers."""

import keras
import numpy as np
import pytest

from keras_vit import edge
from keras_vit.edge.quantization.fake_quant import FakeQuant, SigmoidGrid
from keras_vit.layers import ConvNorm

IMAGES = np.random.default_rng(0).normal(size=(16, 16, 16, 3)).astype("float32")


def network(middle):
    """A strided stem, what `middle` makes of it, and a classifier; every weight random, batch statistics too."""
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


def residual(x):
    # Layers that Keras names by itself, "add" and "add_1": a file's names tell them apart all the same.
    x = keras.layers.Add()([x, ConvNorm(8, 3)(x)])
    return keras.layers.Add()([x, ConvNorm(8, 3, depthwise=True, input_channels=8)(x)])


def gated(x):
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Activation("sigmoid")(ConvNorm(8, norm=False, use_bias=True)(gate))
    return keras.layers.Multiply()([x, gate])


def concatenated(x):
    return keras.layers.Concatenate()([x, ConvNorm(8, 3, activation="relu")(x), ConvNorm(4)(x)])


MIDDLES = {
    "relu": lambda x: ConvNorm(16, 3, strides=2, activation="relu")(x),
    "relu6": lambda x: keras.layers.ReLU(6.0)(ConvNorm(16, 3)(x)),
    "silu": lambda x: ConvNorm(16, 3, activation="silu")(x),
    "residual": residual,
    "residual and relu": lambda x: keras.layers.ReLU()(keras.layers.Add()([x, ConvNorm(8, 3)(x)])),
    "gated": gated,
    "groups": lambda x: ConvNorm(16, 1, groups=4)(x),
    "concatenated": concatenated,
}


@pytest.mark.parametrize("name", MIDDLES)
def test_the_whole_network_is_int8_and_gives_the_models_answers(name, tmp_path):
    model = network(MIDDLES[name])
    quantized = edge.quantize_aware(model, calibration_data=IMAGES)
    file = edge.export(quantized, tmp_path / "model.tflite", "hybrid_int8")
    audit = edge.audit(file)
    assert audit.partitions == 1 and audit.findings == []
    # Float comes in and goes out; a concatenation puts its inputs on its own grid.
    assert audit.ops["DEQUANTIZE"] == 1
    assert audit.ops["QUANTIZE"] <= (4 if name == "concatenated" else 1)
    assert edge.verify(quantized, file, IMAGES).snr_db > 30
    # The float model is further away: it was the rounding that was reproduced, not only the function.
    assert edge.verify(model, file, IMAGES).snr_db < edge.verify(quantized, file, IMAGES).snr_db - 3


def test_a_sigmoid_has_the_grid_that_the_runtime_gives_it():
    values = np.linspace(-0.2, 1.2, 101, dtype="float32") + 1e-4  # Off the middle between two steps.
    expected = np.clip(np.round(values * 256), 0, 255) / 256
    np.testing.assert_allclose(SigmoidGrid()(values), expected, atol=1e-7)


def test_what_float_layers_read_stays_in_float(tmp_path):
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
    files = [edge.export(m, tmp_path / f"{n}.tflite", "hybrid_int8") for n, m in enumerate((quantized, loaded))]
    assert edge.verify(files[0], files[1], IMAGES).max_abs_error == 0
