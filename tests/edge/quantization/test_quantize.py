"""Quantization-aware training: the rounding is that of int8, and the result is an ordinary Keras model."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import edge
from keras_vit.edge.quantization.fake_quant import FakeQuant, QuantizedConv2D, QuantizedDense, QuantizedDepthwiseConv2D
from tests.models.vit.forms import form, images

IMAGES = np.random.default_rng(0).normal(size=(24, 16, 16, 3)).astype("float32")


def vit(**settings):
    keras.utils.set_random_seed(0)
    return keras_vit.ViT(
        **{"input_shape": (16, 16, 3), "patch_size": 4, "width": 24, "depth": 1, "num_heads": 3, "classes": 5}
        | settings
    )


@pytest.fixture(scope="module")
def float_and_quantized():
    """A ViT, its weights before it was quantized, and its quantized form."""
    model = vit()
    before = model.get_weights()
    return model, before, edge.quantize_aware(model, calibration_data=IMAGES)


@pytest.fixture
def quantized(float_and_quantized):
    return float_and_quantized[2]


def grid(values, limit):
    """Round to symmetric int8 by its definition: 127 steps on either side of zero."""
    step = limit / 127
    return np.clip(np.round(values / step), -127, 127) * step


def test_activations_are_on_the_int8_grid():
    layer = FakeQuant()
    random = np.random.default_rng(0)
    # Not in the middle between two steps, where the two ways of rounding differ.
    values = ((random.integers(-150, 150, 1000) + random.uniform(-0.4, 0.4, 1000)) * 3 / 127).astype("float32")
    layer(values)
    layer.range = (-3.0, 3.0)
    np.testing.assert_allclose(layer(values), grid(values, 3.0), atol=1e-6)
    assert len(np.unique(np.round(np.asarray(layer(values)) * 127 / 3))) > 200


def test_the_gradient_passes_only_inside_the_range():
    layer = FakeQuant()
    values = tf.constant([-4.0, -1.0, 0.3, 2.9, 3.5])
    layer(values)
    layer.range = (-3.0, 3.0)
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = layer(values)
    np.testing.assert_array_equal(tape.gradient(outputs, values), [0, 1, 1, 1, 0])


def test_the_range_follows_the_data_in_training():
    layer = FakeQuant()
    values = np.array([-8.0, 2.0], "float32")
    layer(values)
    layer.range = (-4.0, 4.0)
    layer(values)
    assert layer.range == (-4.0, 4.0)
    layer(values, training=True)
    np.testing.assert_allclose(layer.range[1], 4.0 + (8.0 - 4.0) * 0.001, rtol=1e-6)


@pytest.mark.parametrize(
    ("plain", "quantized", "inputs"),
    [
        (keras.layers.Dense(6), QuantizedDense, (2, 5)),
        (keras.layers.Conv2D(6, 3, strides=2, padding="same"), QuantizedConv2D, (2, 8, 8, 4)),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), QuantizedDepthwiseConv2D, (2, 8, 8, 4)),
    ],
    ids=["dense", "conv", "depthwise"],
)
def test_kernels_are_on_the_grid_of_their_channel(plain, quantized, inputs):
    random = np.random.default_rng(0)
    x = random.normal(size=inputs).astype("float32")
    plain(x)
    for variable in plain.weights:
        variable.assign(random.normal(size=variable.shape))
    layer = quantized.from_config(plain.get_config())
    layer(x)
    for variable, plain_variable in zip(layer.trainable_weights, plain.trainable_weights, strict=True):
        variable.assign(plain_variable)
    kernel = np.asarray(plain.kernel.numpy())
    # An output channel is the kernel's last axis, or (channel, multiplier) in a depthwise kernel.
    axes = (0, 1) if isinstance(plain, keras.layers.DepthwiseConv2D) else tuple(range(kernel.ndim - 1))
    plain.kernel.assign(grid(kernel, np.abs(kernel).max(axis=axes, keepdims=True)))
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)


def test_initial_ranges_are_those_of_the_calibration_data(quantized):
    first = next(layer for layer in quantized.layers if isinstance(layer, FakeQuant))
    low, high = first.range
    assert -low < np.abs(IMAGES).max() * 1.01 and high > 0.7 * np.abs(IMAGES).max()
    probabilities = quantized.get_layer("block_0.attention.softmax.fake_quant").range[1]
    assert 0 < probabilities <= 1


def test_every_product_is_rounded_and_nothing_is_rounded_twice(quantized):
    ranges = [layer.name for layer in quantized.layers if isinstance(layer, FakeQuant)]
    assert len(ranges) == len(set(ranges))
    block = {name.removesuffix(".fake_quant") for name in ranges if name.startswith("block_0.")}
    assert block == {
        "block_0.norm1",
        "block_0.attention.query",
        "block_0.attention.key",
        "block_0.attention.value",
        "block_0.attention.scores",
        "block_0.attention.softmax",
        "block_0.attention.context",
        "block_0.attention.projection",
        "block_0.norm2",
        "block_0.mlp.expand",
        "block_0.mlp.activation",
        "block_0.mlp.contract",
    }
    dense = [layer for layer in quantized.layers if isinstance(layer, keras.layers.Dense)]
    assert dense and all(isinstance(layer, QuantizedDense) for layer in dense)


@pytest.mark.parametrize(
    "settings",
    [{"class_token": False, "pooling": "map"}, {"class_token": False, "pooling": "map", "num_heads": 1}],
    ids=["heads", "one head"],
)
def test_attention_with_a_learned_query_is_exported_in_one_piece(settings, tmp_path):
    model = vit(**settings)
    quantized = edge.quantize_aware(model, calibration_data=IMAGES)
    names = {layer.name for layer in quantized.layers}
    # The query is a constant in the file, and the CPU delegate does not run an int8 product with a constant.
    assert "pooling.attention.scores" in names and "pooling.attention.scores.fake_quant" not in names
    assert {"pooling.attention.key.fake_quant", "pooling.attention.context.fake_quant"} <= names
    file = edge.export(quantized, tmp_path / "model.tflite", "hybrid_int8")
    audit = edge.audit(file)
    assert audit.partitions == 1 and audit.findings == []
    result = edge.verify(quantized, file, IMAGES)
    assert result.snr_db > 30 and result.snr_db > edge.verify(model, file, IMAGES).snr_db + 1


@pytest.mark.parametrize("which", ["distilled DeiT", "registers", "average"])
def test_slices_of_a_float_tensor_have_grids_of_their_own(which, tmp_path):
    model = form(which, classifier_activation=None, depth=1)
    quantized = edge.quantize_aware(model, calibration_data=images(32))
    file = edge.export(quantized, tmp_path / "model.tflite", "hybrid_int8")
    assert edge.audit(file).partitions == 1
    result = edge.verify(quantized, file, images(32))
    assert result.snr_db > edge.verify(model, file, images(32)).snr_db + 1.5


def test_it_is_close_to_the_float_model_and_does_not_change_it(float_and_quantized):
    model, before, quantized = float_and_quantized
    a, b = np.asarray(model(IMAGES)), np.asarray(quantized(IMAGES))
    assert 0 < np.max(np.abs(a - b)) < 0.1
    assert all(np.array_equal(x, y) for x, y in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_trains_like_any_model(jit_compile):
    model = edge.quantize_aware(vit(), calibration_data=IMAGES)
    labels = np.eye(5)[np.arange(24) % 5]
    model.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy", jit_compile=jit_compile)
    losses = model.fit(IMAGES, labels, epochs=15, batch_size=24, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.long
def test_it_trains_under_a_distribution_strategy():
    # In a process of its own, because the number of devices is fixed once TensorFlow has started.
    script = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, keras_vit
from keras_vit import edge
images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras_vit.ViT(input_shape=(8, 8, 3), patch_size=4, width=12, depth=1, num_heads=2, classes=3)
    learned = edge.quantize_aware(model, calibration_data=images, learned_steps=True)
    model = edge.quantize_aware(model, calibration_data=images)
    for each in (model, learned):
        each.compile(keras.optimizers.Adam(1e-2), "categorical_crossentropy")

def fit(model):
    model.fit(images * 2, np.eye(3)[np.arange(8) % 3], batch_size=8, verbose=0)

def first_range(model):
    return next(layer for layer in model.layers if type(layer).__name__ == "FakeQuant").range

limit, learned_range = first_range(model)[1], first_range(learned)
fit(model)
assert first_range(model)[1] > limit
fit(learned)
assert first_range(learned) != learned_range
for variable in learned.variables:
    copies = [np.array(copy) for copy in variable.value.values]
    assert np.array_equal(*copies), variable.path
frozen = first_range(learned)
edge.freeze_ranges(learned)
fit(learned)
assert first_range(learned) == frozen
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_an_activation_inside_a_dense_layer_stays_in_float():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(image)
    x = keras.layers.Dense(4, activation="gelu", name="inner")(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    data = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    quantized = edge.quantize_aware(model, calibration_data=data)
    assert quantized.get_layer("inner").activation is keras.activations.linear
    assert quantized.get_layer("inner.activation").activation is keras.activations.gelu
    np.testing.assert_allclose(quantized(data), model(data), atol=0.1)


class TestBadInput:
    @pytest.fixture(autouse=True)
    def use_the_model(self, float_and_quantized):
        self.model = float_and_quantized[0]

    def refuses(self, match, data=IMAGES, error=ValueError, model=None, **settings):
        with pytest.raises(error, match=match):
            edge.quantize_aware(model or self.model, calibration_data=data, **settings)

    def test_no_images(self):
        self.refuses("no images", IMAGES[:0])

    def test_images_of_another_shape(self):
        self.refuses(r"\(N, 16, 16, 3\); received \(24, 8, 8, 3\)", IMAGES[:, :8, :8])

    def test_images_that_are_not_finite(self):
        images = IMAGES.copy()
        images[7, 1, 2, 0] = np.nan
        self.refuses("Image 7 has the value nan at row 1, column 2, channel 0", images)

    def test_an_unknown_scheme(self):
        self.refuses("'int4'", scheme="int4")

    def test_a_model_that_is_quantized_already(self, quantized):
        self.refuses("quantized already", model=quantized)
