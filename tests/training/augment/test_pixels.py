"""Compare every operation with Pillow, which the original code of the recipes uses."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from keras_vit.training.augment import pixels
from tests.training.pictures import picture

FILL = (124, 116, 104)
IMAGES = np.stack(
    [picture(1), picture(2) // 3 + 40, np.full((30, 40, 3), 77, np.uint8), 255 - picture(3) // 8, picture(4)]
)
EACH = [0.4, 0.8, 1.0, 1.3, 1.9]


def moved(image, matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=FILL)


OPERATIONS = {
    "autocontrast": (pixels.autocontrast, ImageOps.autocontrast, None, 1),
    "equalize": (pixels.equalize, ImageOps.equalize, None, 0),
    "invert": (pixels.invert, ImageOps.invert, None, 0),
    "gray": (pixels.gray, lambda image: image.convert("L").convert("RGB"), None, 1),
    "posterize": (pixels.posterize, lambda image, bits: ImageOps.posterize(image, int(bits)), [1, 2, 4, 7, 8], 0),
    "solarize": (pixels.solarize, ImageOps.solarize, [0, 30, 128, 200, 256], 0),
    "solarize_add": (
        pixels.solarize_add,
        lambda image, add: image.point([min(255, i + int(add)) if i < 128 else i for i in range(256)] * 3),
        [60, 0, 10, 100, 110],
        0,
    ),
    "color": (pixels.color, lambda image, factor: ImageEnhance.Color(image).enhance(factor), EACH, 1),
    "contrast": (pixels.contrast, lambda image, factor: ImageEnhance.Contrast(image).enhance(factor), EACH, 1),
    "brightness": (pixels.brightness, lambda image, factor: ImageEnhance.Brightness(image).enhance(factor), EACH, 1),
    "sharpness": (pixels.sharpness, lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor), EACH, 1),
}
MOTIONS = {
    "rotate": (
        pixels.rotate,
        lambda image, degrees: image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=FILL),
        [-30, -7, 0, 10, 27],
    ),
    "shear_x": (pixels.shear_x, lambda image, f: moved(image, (1, f, 0, 0, 1, 0)), [-0.3, -0.1, 0, 0.1, 0.3]),
    "shear_y": (pixels.shear_y, lambda image, f: moved(image, (1, 0, 0, f, 1, 0)), [-0.3, -0.1, 0, 0.1, 0.3]),
    "translate_x": (
        pixels.translate_x,
        lambda image, f: moved(image, (1, 0, 40 * f, 0, 1, 0)),
        [-0.4, -0.1, 0, 0.2, 0.45],
    ),
    "translate_y": (
        pixels.translate_y,
        lambda image, f: moved(image, (1, 0, 0, 0, 1, 30 * f)),
        [-0.4, -0.1, 0, 0.2, 0.45],
    ),
}


def both(ours, pillows, strengths):
    """Apply our operation and Pillow's to each image with its strength, and return both results."""
    arguments = [] if strengths is None else [tf.constant(strengths, tf.float32)]
    result = tf.function(ours)(tf.constant(IMAGES), *arguments)
    assert result.dtype == tf.uint8 and result.shape == IMAGES.shape
    pictures = [Image.fromarray(image) for image in IMAGES]
    if strengths is None:
        expected = [pillows(image) for image in pictures]
    else:
        expected = [pillows(image, strength) for image, strength in zip(pictures, strengths, strict=True)]
    return result.numpy().astype(int), np.stack([np.asarray(image) for image in expected]).astype(int)


@pytest.mark.parametrize("name", OPERATIONS)
def test_values_match_pillow(name):
    ours, pillows, strengths, tolerance = OPERATIONS[name]
    result, expected = both(ours, pillows, strengths)
    difference = np.abs(result - expected)
    assert difference.max() <= tolerance
    assert (difference > 0).mean() < 0.3
    assert np.abs(result - IMAGES).max() > 1  # The operation has an effect.


@pytest.mark.parametrize("name", MOTIONS)
def test_geometric_operations_match_pillow(name):
    result, expected = both(*MOTIONS[name])
    # Pillow fills points outside the image, whereas ours blends within one pixel of the border, so a few pixels differ.
    differs = np.abs(result - expected).max(axis=-1) > 2
    assert differs.mean() < 0.06
    np.testing.assert_array_equal(result[2] != 77, expected[2] != 77, err_msg="strength 0 must not uncover anything")
    # The check can fail: it detects a shift of half a pixel.
    ours, pillows, strengths = MOTIONS[name]
    shifted, _ = both(lambda images, s: ours(pixels.translate_x(images, tf.fill([5], 0.5 / 40)), s), pillows, strengths)
    assert (np.abs(shifted - expected).max(axis=-1) > 2).mean() > 0.1


def test_rotation_by_zero_returns_the_image_unchanged():
    np.testing.assert_array_equal(pixels.rotate(tf.constant(IMAGES), tf.zeros(5)), IMAGES)


def test_blur_matches_a_gaussian_filter():
    sigmas = [0.1, 0.5, 1.0, 1.5, 2.0]
    result = pixels.blur(tf.constant(IMAGES), tf.constant(sigmas)).numpy()
    for image, ours, sigma in zip(IMAGES, result, sigmas, strict=True):
        expected = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="reflect", radius=(6, 6, 0))
        np.testing.assert_allclose(ours, expected, atol=0.51 + 1e-3)


def test_hue_rotates_the_color_circle():
    red = np.full((3, 4, 4, 3), (200, 20, 20), np.uint8)
    result = pixels.hue(tf.constant(red), tf.constant([0.0, 1 / 3, -1 / 3]))
    np.testing.assert_array_equal(result[:, 0, 0], [(200, 20, 20), (20, 200, 20), (20, 20, 200)])


@pytest.mark.parametrize("name", [*OPERATIONS, *MOTIONS])
def test_operations_accept_an_empty_batch(name):
    ours, _, strengths, *_ = (OPERATIONS | MOTIONS)[name]
    arguments = [] if strengths is None else [tf.zeros([0])]
    assert ours(tf.zeros((0, 30, 40, 3), tf.uint8), *arguments).shape == (0, 30, 40, 3)


def test_keras_cv_is_imported_lazily_and_leaves_keras_unchanged():
    program = """
import sys, keras
keras.config.set_dtype_policy("mixed_float16")
before = dict(vars(keras.backend))
import keras_vit.training
assert "keras_cv" not in sys.modules
from keras_vit.training.augment import pixels
import numpy as np, tensorflow as tf
image = np.full((1, 4, 4, 3), 201, np.uint8); image[0, 0] = 3
assert pixels.solarize(tf.constant(image), tf.constant([128.0])).numpy()[0, 1, 1, 0] == 54
assert "keras_cv" in sys.modules
assert dict(vars(keras.backend)) == before
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_keras_cv_raises_with_install_instructions(monkeypatch):
    pixels._keras_cv.cache_clear()
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ImportError, match=r'needs keras-cv: pip install "keras-vit\[train\]"'):
        pixels.autocontrast(tf.constant(IMAGES))
