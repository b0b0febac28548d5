"""Apply pixel operations of given strengths to batches of images; the only module that uses keras-cv.

Images have the shape (batch, height, width, 3) and are uint8 before and after each operation, as in the original code
of the recipes, which rounds after each operation. Strengths have the shape (batch,) and are float32. Every operation
gives the result of the Pillow operation of the same name, up to rounding.

The keras-cv layers draw their strengths from a random state that cannot be restored at a given step. This module
therefore bypasses their random part and passes strengths that are drawn elsewhere. It implements an operation itself
where keras-cv has none, gives a different result (Equalization) or is much slower (RandomSharpness).
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from keras_vit.training.lazy_modules import keras, tf
from keras_vit.utils.missing import needs

FILL = np.array([124.0, 116.0, 104.0], "float32")  # Mean color of ImageNet; fills what a moved image uncovers.
_BLUR_RADIUS = 6  # Three times the largest sigma in the recipes, which is 2.
_RANGE = (0, 255)


@contextlib.contextmanager
def _global_generator() -> Iterator[None]:
    """Provide TensorFlow's global generator, which keras-cv's layers request but must never draw from.

    In deterministic mode, which `fit` enables, TensorFlow has no global generator unless one has been set. A generator
    that was created here is removed on exit.
    """
    try:
        tf.random.get_global_generator()
    except RuntimeError:
        tf.random.set_global_generator(tf.random.Generator.from_seed(0))
        try:
            yield
        finally:
            tf.random.set_global_generator(None)
    else:
        yield


@functools.cache
def _keras_cv() -> SimpleNamespace:
    """Return the keras-cv layers used here, in float32 regardless of the dtype policy of the model."""
    before = set(vars(keras.backend))
    with needs("keras-cv", "augmentation", "train"):
        from keras_cv import layers
    # Importing keras-cv adds attributes to keras.backend; remove them, as nothing needs them.
    for name in set(vars(keras.backend)) - before:
        delattr(keras.backend, name)
    with tf.init_scope(), _global_generator():
        return SimpleNamespace(
            autocontrast=layers.AutoContrast(_RANGE, dtype="float32"),
            solarize=layers.Solarization(_RANGE, dtype="float32"),
            fade=layers.RandomColorDegeneration(1.0, dtype="float32"),
            hue=layers.RandomHue(1.0, _RANGE, dtype="float32"),
            blur=layers.RandomGaussianBlur(2 * _BLUR_RADIUS + 1, 1.0, dtype="float32"),
        )


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


def _for_pixels(strengths: tf.Tensor) -> tf.Tensor:
    return tf.reshape(strengths, (-1, 1, 1, 1))


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """Stretch the values of each channel linearly to the range 0 to 255."""
    return _to_uint8(_keras_cv().autocontrast.augment_images(tf.cast(images, tf.float32)))


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Equalize the histogram of each channel, so that its values are spread evenly over 0 to 255."""
    batch, height, width, channels = tf.unstack(tf.shape(images))
    # Each channel of each image has its own histogram of 256 bins.
    tables = batch * channels
    first = tf.reshape(tf.range(tables) * 256, (batch, 1, 1, channels))
    places = tf.cast(images, tf.int32) + first
    counts = tf.math.bincount(tf.reshape(places, [-1]), minlength=tables * 256, maxlength=tables * 256)
    counts = tf.reshape(counts, (tables, 256))
    brightest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    step = (height * width - tf.gather(counts, brightest, batch_dims=1))[:, None] // 255
    darker = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((darker + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))
    return tf.gather(tf.reshape(tf.cast(table, tf.uint8), [-1]), places)


def invert(images: tf.Tensor) -> tf.Tensor:
    """Subtract each value from 255."""
    return 255 - images


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keep the `bits` most significant bits of each value."""
    unused = tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(images, _for_pixels(tf.cast(256 - unused, tf.uint8)))


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Invert the values at or above `threshold`."""
    strengths = {"thresholds": _for_pixels(threshold), "additions": 0.0}
    return _to_uint8(_keras_cv().solarize.augment_images(tf.cast(images, tf.float32), strengths))


def solarize_add(images: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Add `addition` to the values below 128, and clip at 255."""
    raised = tf.minimum(tf.cast(images, tf.int32) + _for_pixels(tf.cast(addition, tf.int32)), 255)
    return tf.where(images < 128, tf.cast(raised, tf.uint8), images)


def _blend(degenerate: tf.Tensor, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _to_uint8(degenerate + (tf.cast(images, tf.float32) - degenerate) * _for_pixels(factor))


def color(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between the grayscale image (factor 0) and the image (factor 1), or extrapolate."""
    return _to_uint8(_keras_cv().fade.augment_images(tf.cast(images, tf.float32), _for_pixels(1.0 - factor)))


def gray(images: tf.Tensor) -> tf.Tensor:
    """Convert images to grayscale, with three equal channels."""
    return _to_uint8(_keras_cv().fade.augment_images(tf.cast(images, tf.float32), 1.0) + 0.5)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between the mean gray level of the image (factor 0) and the image (factor 1), or extrapolate."""
    mean = tf.reduce_mean(tf.cast(gray(images), tf.float32), axis=(1, 2, 3))
    return _blend(_for_pixels(tf.floor(mean + 0.5)), images, factor)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between black (factor 0) and the image (factor 1), or extrapolate."""
    return _blend(0.0, images, factor)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between the image smoothed by a 3 x 3 filter (factor 0) and the image (factor 1), or extrapolate.

    Pixels on the border do not change.
    """
    values = tf.cast(images, tf.float32)
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    middle = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * values[:, 1:-1, 1:-1]
    smooth = tf.floor(middle / 13 + 0.5)
    smooth = tf.concat([values[:, 1:-1, :1], smooth, values[:, 1:-1, -1:]], axis=2)
    return _blend(tf.concat([values[:, :1], smooth, values[:, -1:]], axis=1), images, factor)


def hue(images: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Rotate the hue by `shift`, a fraction of the full color circle between -0.5 and 0.5."""
    return _to_uint8(_keras_cv().hue.augment_images(tf.cast(images, tf.float32), shift) + 0.5)


def blur(images: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """Apply a Gaussian blur with a standard deviation of `sigma` pixels, at most 2, and symmetric padding."""
    layer, radius = _keras_cv().blur, _BLUR_RADIUS

    def blurred(image_and_sigma):
        image, sigma = image_and_sigma
        kernel = layer.get_kernel(sigma, 2 * radius + 1)
        wide = tf.pad(tf.cast(image, tf.float32), [[radius, radius], [radius, radius], [0, 0]], "SYMMETRIC")
        wide = layer.augment_image(wide, (tf.reshape(kernel, (-1, 1, 1, 1)), tf.reshape(kernel, (1, -1, 1, 1))))
        return _to_uint8(wide[radius:-radius, radius:-radius] + 0.5)

    return tf.map_fn(blurred, (images, sigma), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.uint8))


def affine(images: tf.Tensor, matrix: list[tf.Tensor | float]) -> tf.Tensor:
    """Apply an affine transformation to each image by bilinear interpolation.

    The output pixel at (x, y) is taken from the input at (a x + b y + c, d x + e y + f). Coordinates start at the top
    left corner of the image, and each pixel is a square of size 1. Points outside the image have the color `FILL`.

    Args:
        images: Images of shape (batch, height, width, 3), uint8.
        matrix: Coefficients a, b, c, d, e and f, each of shape (batch,) or a single number for all images.

    Returns:
        Images of the same shape, uint8.
    """
    batch = tf.shape(images)[:1]
    a, b, c, d, e, f = (tf.broadcast_to(tf.cast(value, tf.float32), batch) for value in matrix)
    zero = tf.zeros(batch)
    # The TensorFlow operation places the origin at the center of the first pixel.
    rows = [a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, zero, zero]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32) - FILL,
        transforms=tf.stack(rows, axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return _to_uint8(tf.ensure_shape(moved, images.shape) + FILL + 0.5)


def _size(images, axis):
    return tf.cast(tf.shape(images)[axis], tf.float32)


def rotate(images: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Rotate each image counterclockwise around its center."""
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = _size(images, 1) / 2, _size(images, 2) / 2
    return affine(images, [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y])


def shear_x(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Shift each row to the left by `factor` times its distance from the top."""
    return affine(images, [1.0, factor, 0.0, 0.0, 1.0, 0.0])


def shear_y(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Shift each column up by `factor` times its distance from the left."""
    return affine(images, [1.0, 0.0, 0.0, factor, 1.0, 0.0])


def translate_x(images: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Shift each image to the left by a fraction of its width."""
    return affine(images, [1.0, 0.0, part * _size(images, 2), 0.0, 1.0, 0.0])


def translate_y(images: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Shift each image up by a fraction of its height."""
    return affine(images, [1.0, 0.0, 0.0, 0.0, 1.0, part * _size(images, 1)])
