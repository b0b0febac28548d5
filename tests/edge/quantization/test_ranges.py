"""Initial ranges minimize the error that they cause, and biases are corrected for what is left."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.edge.quantization.fake_quant import FakeQuant
from keras_vit.edge.quantization.plan import Grid
from keras_vit.edge.quantization.ranges import BINS, choose_range
from tests.edge.models import IMAGES, vit


def error(values, low, high, bits, symmetric):
    """Return the squared error of rounding to a grid, by its definition."""
    if symmetric:
        step, zero, least, most = high / (2 ** (bits - 1) - 1), 0, -(2 ** (bits - 1)) + 1, 2 ** (bits - 1) - 1
    else:
        step = (high - low) / (2**bits - 1)
        least, most = 0, 2**bits - 1
        zero = np.round(-low / step)
    rounded = (np.clip(np.round(values / step) + zero, least, most) - zero) * step
    return np.square(rounded - values).sum()


def chosen(method, values, grid):
    ends = float(values.min()), float(values.max())
    return choose_range(method, grid, ends, np.histogram(values, BINS, ends)[0])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", ["normal", "heavy tails", "one side", "outlier"])
def test_the_least_error_is_near_that_of_the_best_of_all_ranges(symmetric, bits, shape):
    random = np.random.default_rng(0)
    values = random.normal(size=4000)
    values = {
        "normal": values,
        "heavy tails": random.standard_t(3, 4000),
        "one side": np.maximum(values, -0.2),
        "outlier": np.append(values, 40.0),
    }[shape]
    found = error(values, *chosen("least_error", values, Grid(bits, symmetric)), bits, symmetric)
    widest = max(-values.min(), values.max())
    parts = np.linspace(0.02, 1, 50)
    if symmetric:
        every = [error(values, -widest * part, widest * part, bits, True) for part in parts]
    else:
        every = [error(values, values.min() * a, values.max() * b, bits, False) for a in parts for b in parts]
    assert found < 1.1 * min(every)
    ends = (-widest, widest) if symmetric else (values.min(), values.max())
    assert found <= 1.02 * error(values, *ends, bits, symmetric)


def test_a_percentile_leaves_out_the_outermost_values():
    values = np.concatenate([np.linspace(-1, 1, 100_000), [50.0, -30.0]])
    low, high = chosen("percentile", values, Grid(symmetric=False))
    assert -1.1 < low < -0.9 and 0.9 < high < 1.1
    assert chosen("min_max", values, Grid(symmetric=False)) == (-30.0, 50.0)


def test_every_range_is_symmetric_in_the_scheme_for_that(tmp_path):
    quantized = edge.quantize_aware(vit(), scheme="symmetric_int8", calibration_data=IMAGES)
    ranges = [layer.range for layer in quantized.layers if isinstance(layer, FakeQuant)]
    assert len(ranges) > 10 and all(low == -high for low, high in ranges)
    file = edge.export(quantized, tmp_path / "model.tflite")
    assert edge.verify(quantized, file, IMAGES).snr_db > 25


@pytest.mark.parametrize("method", ["min_max", "percentile", "least_error"])
def test_zero_is_on_every_grid(method):
    low, high = chosen(method, np.random.default_rng(0).uniform(3, 5, 1000), Grid(symmetric=False))
    assert low == 0 and 4.5 < high <= 5


def test_what_is_never_below_zero_has_a_grid_without_a_negative_half():
    quantized = edge.quantize_aware(vit(), calibration_data=IMAGES)
    low, high = quantized.get_layer("block_0.attention.softmax.fake_quant").range
    assert low == 0 and 0 < high <= 1
    # XNNPACK multiplies two activations only if the right-hand one has the zero point 0.
    for right in ("key", "value"):
        low, high = quantized.get_layer(f"block_0.attention.{right}.fake_quant").range
        assert low == -high


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_mean_of_the_rounding_is_corrected(use_bias, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, name="first", use_bias=use_bias)(image)
    x = keras.layers.Conv2D(4, 3, name="second", use_bias=use_bias)(keras.layers.ReLU()(x))
    model = keras.Model(image, x)
    images = np.random.default_rng(0).uniform(size=(16, 8, 8, 3)).astype("float32")
    power = np.mean(np.square(model(images)), axis=(1, 2, 3))
    weights = 1 / (power + power.mean() / 1000)

    def shift(quantized):
        # What the last layer gives, before its grid.
        before = keras.Model(quantized.input, quantized.get_layer("second").output)
        difference = np.mean(before(images) - model(images), axis=(1, 2))
        return np.abs(weights @ difference).max() / weights.sum()

    quantized = edge.quantize_aware(model, calibration_data=images)
    assert shift(quantized) < 1e-6
    assert shift(edge.quantize_aware(model, calibration_data=images, bias_correction=False)) > 1e-4
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert shift(loaded) < 1e-6
    file = edge.export(loaded, tmp_path / "model.tflite")
    assert edge.verify(loaded, file, images).snr_db > 50


def test_a_dense_layer_before_learned_tokens_keeps_its_range(tmp_path):
    """With a bias, the converter would move it to the tokens."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 12))
    tokens = keras_vit.layers.LearnedTokens(4, 8, initializer="normal")(inputs)
    x = keras.layers.Add()([keras.layers.Dense(8, use_bias=False)(inputs), tokens])
    model = keras.Model(inputs, keras.layers.Dense(5)(x))
    data = np.random.default_rng(0).uniform(size=(16, 4, 12)).astype("float32")
    quantized = edge.quantize_aware(model, calibration_data=data)
    file = edge.export(quantized, tmp_path / "model.tflite")
    assert edge.verify(quantized, file, data).snr_db > 40


def test_a_few_large_images_do_not_decide_alone():
    """Behind the normalization of each image, all images count the same."""
    inputs = keras.Input((64,))
    x = keras.layers.Dense(64, kernel_initializer="identity", name="copy")(inputs)
    x = keras.layers.LayerNormalization(epsilon=1e-6)(x)
    model = keras.Model(inputs, keras.layers.Dense(8)(x))
    data = np.random.default_rng(0).standard_normal((16, 64)).astype("float32")
    data[3] *= 60

    def snr_of_most(method):
        quantized = edge.quantize_aware(model, calibration_data=data, ranges=method)
        most = np.delete(data, 3, axis=0)
        expected, given = (np.asarray(each(most)) for each in (model, quantized))
        return 10 * np.log10(np.square(expected).sum() / np.square(expected - given).sum())

    assert snr_of_most("least_error") > snr_of_most("min_max") + 8


def test_the_correction_changes_only_biases():
    model = vit()
    quantized = edge.quantize_aware(model, calibration_data=IMAGES)
    for layer in keras_vit.fuse(model).layers:
        if hasattr(layer, "kernel"):
            np.testing.assert_array_equal(layer.kernel, quantized.get_layer(layer.name).kernel)


def test_an_unknown_method():
    with pytest.raises(ValueError, match=r"ranges must be one of .*'least_error'.*; received 'best'"):
        edge.quantize_aware(vit(), calibration_data=IMAGES, ranges="best")


def test_fixed_grids_have_no_range_to_set():
    with pytest.raises(ValueError, match="is fixed"):
        FakeQuant(limits=(0.0, 1.0)).range = (0.0, 2.0)
