"""Learned steps (LSQ, arXiv 1902.08153) against the paper's formulas in NumPy, and ranges that are frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import edge
from keras_vit.edge.quantization.fake_quant import FakeQuant, WithRoundedKernel
from keras_vit.edge.quantization.learned_steps import learned_rounding
from tests.edge.models import IMAGES, vit

SLOW = ("full_int8", "int4_weights")
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


def quantized(**settings):
    return edge.quantize_aware(vit(), calibration_data=IMAGES, learned_steps=True, **settings)


def fit(model, **settings):
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model.fit(IMAGES, LABELS, **{"epochs": 2, "batch_size": 8, "verbose": 0} | settings).history["loss"]


def steps(model):
    """Return the ranges of the grids and the kernels of a model's layers, rounded, by name."""
    grids = {each.name: each.range for each in model.layers if isinstance(each, FakeQuant) and each.limits is None}
    kernels = {each.name: np.array(each.rounded_kernel()) for each in model.layers if hasattr(each, "rounded_kernel")}
    return grids, kernels


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
    ordinary = edge.quantize_aware(vit(), calibration_data=IMAGES)
    for name, (low, high) in steps(ordinary)[0].items():
        assert steps(learned)[0][name] == pytest.approx((low, high), abs=(high - low) / 200)
    for layer in (each for each in learned.layers if isinstance(each, WithRoundedKernel)):
        kernel = np.abs(np.array(layer.kernel)).reshape(-1, layer.kernel.shape[-1])
        largest = np.abs(np.array(layer.rounded_kernel())).reshape(kernel.shape).max(0)
        np.testing.assert_allclose(largest, np.minimum(kernel.max(0), 2 * kernel.mean(0) * 127**0.5), rtol=1e-4)


@pytest.mark.parametrize("scheme", ["hybrid_int8", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_steps_are_learned_saved_loaded_and_written_to_the_file(scheme, tmp_path):
    model = quantized(scheme=scheme)
    before = steps(model)
    losses = fit(model, epochs=4)
    assert losses[-1] < losses[0]
    after = steps(model)
    changed = [after[0][name] != before[0][name] for name in before[0]]
    assert all(changed) and (changed or scheme == "int4_weights")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    file = edge.export(loaded, tmp_path / "model.tflite")
    assert edge.verify(model, file, IMAGES).snr_db > (20 if scheme == "int4_weights" else 25)
    fit(loaded)


@pytest.mark.parametrize("learned_steps", [False, True])
def test_ranges_are_frozen_after_an_epoch(learned_steps, tmp_path):
    model = edge.quantize_aware(vit(), calibration_data=IMAGES, learned_steps=learned_steps)
    ranges = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ranges.append(steps(model)[0]))
    kernel = np.array(model.get_layer("head").kernel)
    fit(model, epochs=4, callbacks=[edge.FreezeRanges(0.5), record])
    assert ranges[0] != ranges[1] and ranges[1] == ranges[2] == ranges[3]
    assert not np.array_equal(kernel, model.get_layer("head").kernel)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    fit(loaded, epochs=1)
    assert steps(loaded)[0] == ranges[3]


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
            edge.freeze_ranges(vit())

    @pytest.mark.parametrize("after", [-1, 1.5, True])
    def test_when(self, after):
        with pytest.raises(ValueError, match="fraction of the epochs below 1"):
            edge.FreezeRanges(after)
