"""What augmentation does to the pixels of images, with the strengths given: the one file that knows keras-cv.

Images are (batch, height, width, 3), uint8, and stay so from one operation to the next, as in the recipes' own code,
which rounds after each one. Strengths are (batch,), float32. Every operation gives what Pillow's of that name gives,
but for rounding.

keras-cv's layers draw their own strengths from a state that no step can return to. So its layers are called past
their random part, with strengths drawn elsewhere. Where it has no such operation, has it with another result (its
Equalization) or is much slower (its RandomSharpness), the operation is written here.
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

FILL = np.array([124.0, 116.0, 104.0], "float32")  # ImageNet's mean color: what comes into view when an image moves.
_BLUR_RADIUS = 6  # Three times the largest sigma of the recipes, 2.
_RANGE = (0, 255)


@contextlib.contextmanager
def _global_generator() -> Iterator[None]:
    """Provide TensorFlow's global generator, which keras-cv's layers request but must never draw from.

    Where determinism is on, as `fit` has it, there is none unless somebody sets one; afterwards it is as before.
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
    """Return the layers of keras-cv that are used, in float32 whatever the policy of the model is."""
    before = set(vars(keras.backend))
    with needs("keras-cv", "augmentation", "train"):
        from keras_cv import layers
    # Importing it gives Keras' module attributes that nothing needs.
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
    """Stretch each channel so that its darkest value is 0 and its brightest 255."""
    return _to_uint8(_keras_cv().autocontrast.augment_images(tf.cast(images, tf.float32)))


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Map the values of each channel so that they are distributed evenly over 0 to 255."""
    batch, height, width, channels = tf.unstack(tf.shape(images))
    # Each channel of each image counts in 256 places of its own.
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
    """Keep the highest `bits` bits of each value."""
    unused = tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(images, _for_pixels(tf.cast(256 - unused, tf.uint8)))


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Invert the values that are at least `threshold`."""
    strengths = {"thresholds": _for_pixels(threshold), "additions": 0.0}
    return _to_uint8(_keras_cv().solarize.augment_images(tf.cast(images, tf.float32), strengths))


def solarize_add(images: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Add to the values below 128."""
    raised = tf.minimum(tf.cast(images, tf.int32) + _for_pixels(tf.cast(addition, tf.int32)), 255)
    return tf.where(images < 128, tf.cast(raised, tf.uint8), images)


def _blend(degenerate: tf.Tensor, images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _to_uint8(degenerate + (tf.cast(images, tf.float32) - degenerate) * _for_pixels(factor))


def color(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between the gray image (factor 0) and the image (factor 1), or extrapolate."""
    return _to_uint8(_keras_cv().fade.augment_images(tf.cast(images, tf.float32), _for_pixels(1.0 - factor)))


def gray(images: tf.Tensor) -> tf.Tensor:
    """Return the gray image in three equal channels."""
    return _to_uint8(_keras_cv().fade.augment_images(tf.cast(images, tf.float32), 1.0) + 0.5)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between the image's mean gray (factor 0) and the image (factor 1), or extrapolate."""
    mean = tf.reduce_mean(tf.cast(gray(images), tf.float32), axis=(1, 2, 3))
    return _blend(_for_pixels(tf.floor(mean + 0.5)), images, factor)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between black (factor 0) and the image (factor 1), or extrapolate."""
    return _blend(0.0, images, factor)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Interpolate between the image smoothed by a 3 x 3 filter (factor 0) and the image (factor 1); borders stay."""
    values = tf.cast(images, tf.float32)
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    middle = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * values[:, 1:-1, 1:-1]
    smooth = tf.floor(middle / 13 + 0.5)
    smooth = tf.concat([values[:, 1:-1, :1], smooth, values[:, 1:-1, -1:]], axis=2)
    return _blend(tf.concat([values[:, :1], smooth, values[:, -1:]], axis=1), images, factor)


def hue(images: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Rotate the hue by `shift` of the whole circle, between -0.5 and 0.5."""
    return _to_uint8(_keras_cv().hue.augment_images(tf.cast(images, tf.float32), shift) + 0.5)


def blur(images: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """Blur by a Gaussian with a standard deviation of `sigma` pixels, at most 2; borders are mirrored."""
    layer, radius = _keras_cv().blur, _BLUR_RADIUS

    def blurred(image_and_sigma):
        image, sigma = image_and_sigma
        kernel = layer.get_kernel(sigma, 2 * radius + 1)
        wide = tf.pad(tf.cast(image, tf.float32), [[radius, radius], [radius, radius], [0, 0]], "SYMMETRIC")
        wide = layer.augment_image(wide, (tf.reshape(kernel, (-1, 1, 1, 1)), tf.reshape(kernel, (1, -1, 1, 1))))
        return _to_uint8(wide[radius:-radius, radius:-radius] + 0.5)

    return tf.map_fn(blurred, (images, sigma), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.uint8))


def affine(images: tf.Tensor, matrix: list[tf.Tensor | float]) -> tf.Tensor:
    """Take each pixel (x, y) from (a x + b y + c, d x + e y + f) of the image, by bilinear interpolation.

    Args:
        images: The images.
        matrix: a, b, c, d, e, f, each (batch,) or one number for all, for points counted from the top left corner
            of an image whose pixels are squares of size 1. What lies outside of it has the color `FILL`.
    """
    batch = tf.shape(images)[:1]
    a, b, c, d, e, f = (tf.broadcast_to(tf.cast(value, tf.float32), batch) for value in matrix)
    zero = tf.zeros(batch)
    # The operation counts from the middle of the first pixel.
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
    """Rotate each image around its center, counterclockwise."""
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = _size(images, 1) / 2, _size(images, 2) / 2
    return affine(images, [cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y])


def shear_x(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Move each row to the left by `factor` times its distance from the top."""
    return affine(images, [1.0, factor, 0.0, 0.0, 1.0, 0.0])


def shear_y(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Move each column up by `factor` times its distance from the left."""
    return affine(images, [1.0, 0.0, 0.0, factor, 1.0, 0.0])


def translate_x(images: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Move each image to the left by a fraction of its width."""
    return affine(images, [1.0, 0.0, part * _size(images, 2), 0.0, 1.0, 0.0])


def translate_y(images: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Move each image up by a fraction of its height."""
    return affine(images, [1.0, 0.0, 0.0, 0.0, 1.0, part * _size(images, 1)])
