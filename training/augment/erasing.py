"""Apply random erasing (Zhong et al., arXiv 1708.04896), which replaces a box of an image with noise."""

from __future__ import annotations

import math

from keras_vit.models.image_facts import IMAGENET
from keras_vit.training.lazy_modules import tf

_AREAS = (0.02, 1 / 3)  # Fractions of the image area.
_RATIO = 10 / 3  # Largest ratio of height to width, and of width to height.
_ATTEMPTS = 10


def erase(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Fill a box of random position, area and aspect ratio in each image with noise.

    Each value of the noise is drawn independently from a normal distribution with the mean and standard deviation of
    the corresponding ImageNet channel. After normalization by the ImageNet statistics, the noise is standard normal, as
    in the original code of the recipes.

    Args:
        images: Images of shape (batch, height, width, channels), float32, in [0, 255].
        seeds: Seed of each image, of shape (batch, 2), int64.

    Returns:
        Images of the same shape, float32.
    """
    return tf.map_fn(
        lambda pair: _erased(*pair), (images, seeds), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32)
    )


def _erased(image, seed):
    of_area, of_ratio, of_place, of_noise = tf.unstack(tf.random.split(seed, 4))
    height, width = tf.unstack(tf.shape(image)[:2])
    channels = image.shape[-1]
    area = tf.random.stateless_uniform([_ATTEMPTS], of_area, *_AREAS) * tf.cast(height * width, tf.float32)
    ratio = tf.exp(tf.random.stateless_uniform([_ATTEMPTS], of_ratio, -math.log(_RATIO), math.log(_RATIO)))
    heights = tf.cast(tf.round(tf.sqrt(area * ratio)), tf.int32)
    widths = tf.cast(tf.round(tf.sqrt(area / ratio)), tf.int32)
    fits = (heights < height) & (widths < width)
    first = tf.argmax(fits)
    # If no attempt fits the image, the box is empty.
    h, w = (tf.where(fits[first], sides[first], 0) for sides in (heights, widths))
    rooms = tf.cast(tf.stack([height - h, width - w]) + 1, tf.float32)
    top, left = tf.unstack(tf.cast(tf.random.stateless_uniform([2], of_place) * rooms, tf.int32))

    mean, std = (255 * tf.constant(value[:channels]) for value in (IMAGENET.mean, IMAGENET.std))
    noise = mean + std * tf.random.stateless_normal([h, w, channels], of_noise)
    around = [[top, height - h - top], [left, width - w - left], [0, 0]]
    inside = tf.pad(tf.ones_like(noise, tf.bool), around)
    return tf.where(inside, tf.pad(noise, around), image)
