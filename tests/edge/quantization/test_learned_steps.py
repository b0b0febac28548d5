"""Learned steps (LSQ, arXiv 1902.08153) against the paper's formulas in NumPy, and ranges that are frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import edge
from keras_vit.edge.quantization.fake_quant import FakeQuant, WithRoundedKernel
from keras_vit.edge.quantization.learned_steps import learned_rounding
from tests.edge.models import IMAGES

LABELS = np.arange(len(IMAGES)) % 5


def lsq(x, step, lowest, highest, upstream, count):
    """Return the output, and the gradients of x and step: equations 1 to 3 and section 2.2 of the paper, in float64."""
    x, step, upstream = (np.asarray(each, np.float64) for each in (x, step, upstream))
    scaled = x / step
    integers = np.round(np.clip(scaled, lowest, highest))
    by_step = np.where(scaled <= lowest, lowest, np.where(scaled >= highest, highest, np.round(scaled) - scaled))
    by_x = np.where((lowest < scaled) & (scaled < highest), 1.0, 0.0)
    axes = tuple(range(x.ndim - step.ndim))
    return integers * step, upstream * by_x, (upstream * by_step).sum(axes) / np.sqrt(count * highest)


@pytest.mark.parametrize(("lowest", "highest"), [(-127, 127), (-7, 7), (0, 255), (-100, 155)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_rounding_and_gradients_are_those_of_the_paper(lowest, highest, per_channel):
    random = np.random.default_rng(0)
    x, upstream = random.normal(size=(2, 2, 16, 5)).astype("float32")
    step = (random.uniform(0.5, 1.5, 5 if per_channel else ()) / highest).astype("float32")
    with tf.GradientTape() as tape:
        values, steps = tf.constant(x), tf.constant(step)
        tape.watch([values, steps])
        rounded = learned_rounding(values, steps, lowest, highest, 30)
    by_x, by_step = tape.gradient(rounded, [values, steps], upstream)
    assert (x / step >= highest).any() and (x / step <= lowest).any() and (np.abs(x / step) < highest).any()
    for given, expected in zip((rounded, by_x, by_step), lsq(x, step, lowest, highest, upstream, 30), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def network():
    """Return a small model with a layer of each kind whose kernel is rounded."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(16, 5, strides=4, name="conv")(image)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    return keras.Model(image, keras.layers.Dense(72, name="head")(keras.layers.Flatten()(x)))


def quantized(**settings):
    return edge.quantize_aware(network(), **{"calibration_data": IMAGES, "learned_steps": True, **settings})


def fit(model, **settings):
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model.fit(IMAGES, LABELS, **{"epochs": 2, "batch_size": 8, "verbose": 0} | settings).history["loss"]


def ranges_of(model):
    """Return the range of each grid that is not fixed, by the layer's name."""
    return {each.name: each.range for each in model.layers if isinstance(each, FakeQuant) and each.limits is None}


def test_a_layer_multiplies_by_the_step_in_the_gradient_of_its_logarithm():
    layer = FakeQuant(symmetric=False, learned=True)
    layer.build((None, 4))
    layer.range = (-0.5, 2.0)
    (low, high), x = layer.range, np.linspace(-2, 4, 12).reshape(3, 4).astype("float32")
    step = (high - low) / 255
    lowest = round(low / step)
    assert (low, high) == pytest.approx((-0.5, 2.0), abs=step / 2)
    with tf.GradientTape() as tape:
        rounded = layer(x, training=True)
    (variable,) = layer.trainable_variables
    expected, _, by_step = lsq(x, step, lowest, lowest + 255, np.ones_like(x), 4)
    np.testing.assert_allclose(rounded, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(rounded, variable.value), by_step * step, rtol=1e-3)


def test_first_steps_are_those_of_the_ranges_and_of_the_paper():
    learned = quantized()
    ordinary = quantized(learned_steps=False)
    for name, (low, high) in ranges_of(ordinary).items():
        assert ranges_of(learned)[name] == pytest.approx((low, high), abs=(high - low) / 200)
    for layer in (each for each in learned.layers if isinstance(each, WithRoundedKernel)):
        channels = layer.kernel.shape[2 if layer.name == "depthwise" else -1]
        kernel = np.abs(np.array(layer.kernel)).reshape(-1, channels)
        largest = np.abs(np.array(layer.rounded_kernel())).reshape(kernel.shape).max(0)
        np.testing.assert_allclose(largest, np.minimum(kernel.max(0), 2 * kernel.mean(0) * 127**0.5), rtol=1e-4)


@pytest.mark.parametrize(
    ("scheme", "snr_db"),
    [
        pytest.param("hybrid_int8", 25, marks=pytest.mark.slow),
        ("int8_weights", 80),  # Nothing else is rounded, so the file has exactly these kernels.
        pytest.param("int4_weights", 20, marks=pytest.mark.slow),  # The runtime rounds the activations too.
        pytest.param("full_int8", 25, marks=pytest.mark.slow),
    ],
)
def test_steps_are_learned_saved_loaded_and_written_to_the_file(scheme, snr_db, tmp_path):
    model = quantized(scheme=scheme)
    learned = [variable for variable in model.trainable_variables if variable.name == "log_step"]
    before = [np.array(variable) for variable in learned]
    losses = fit(model, epochs=4)
    assert losses[-1] < losses[0]
    assert learned and all((np.array(new) != old).any() for new, old in zip(learned, before, strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    file = edge.export(loaded, tmp_path / "model.tflite")
    assert edge.verify(model, file, IMAGES).snr_db > snr_db
    fit(loaded)


def test_kernels_with_learned_steps_in_an_onnx_file(tmp_path):
    model = quantized(scheme="symmetric_int8")
    for layer in (each for each in model.layers if isinstance(each, WithRoundedKernel)):
        layer.steps.set(np.array(layer.steps(False)) / 2)  # So that many weights are clipped.
    file = edge.export(model, tmp_path / "model.onnx")
    assert edge.verify(model, file, IMAGES).snr_db > 30


@pytest.mark.parametrize("learned_steps", [False, True])
def test_ranges_are_frozen_after_an_epoch(learned_steps, tmp_path):
    model = quantized(learned_steps=learned_steps)
    ranges = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ranges.append(ranges_of(model)))
    kernel = np.array(model.get_layer("head").kernel)
    fit(model, epochs=4, callbacks=[edge.FreezeRanges(0.5), record])
    assert ranges[0] != ranges[1] and ranges[1] == ranges[2] == ranges[3]
    assert not np.array_equal(kernel, model.get_layer("head").kernel)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    fit(loaded, epochs=1)
    assert ranges_of(loaded) == ranges[3]
    file = edge.export(loaded, tmp_path / "model.tflite")
    assert edge.verify(loaded, file, IMAGES).snr_db > 25


@pytest.mark.parametrize(("after", "first"), [(0, 0), (0.5, 2), (0.6, 3), (3, 3)])
def test_when_ranges_are_frozen(after, first):
    callback = edge.FreezeRanges(after)
    model = edge.quantize_aware(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), scheme="int8_weights")
    callback.set_model(model)
    callback.set_params({"epochs": 4})
    for epoch in range(4):
        callback.on_epoch_begin(epoch)
        assert model.layers[-1].frozen == (epoch >= first)


class TestErrors:
    def test_a_float_model(self):
        with pytest.raises(ValueError, match="has no ranges to freeze"):
            edge.freeze_ranges(network())

    @pytest.mark.parametrize("after", [-1, 1.5, True])
    def test_when(self, after):
        with pytest.raises(ValueError, match="fraction of the epochs below 1"):
            edge.FreezeRanges(after)
