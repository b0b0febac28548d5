"""Apply small random affine transformations to batches of images, with one seed per image."""

from __future__ import annotations

import math

from keras_vit.training.lazy_modules import keras, tf


def affine(images: tf.Tensor, seeds: tf.Tensor, *, shift: float, rotation: float, zoom: float) -> tf.Tensor:
    """Shift, rotate and scale each image by random amounts, and fill the new borders with zeros.

    The three transformations are combined into one matrix and one bilinear resampling. Separate augmentation layers
    would resample once per transformation, which blurs small images and takes two to three times as long for large
    ones.

    Args:
        images: Images of shape (batch, height, width, channels), float32.
        seeds: Seed of each image, of shape (batch, 2), int32 or int64.
        shift: Largest shift, as a fraction of the height and width.
        rotation: Largest rotation angle in degrees, in either direction.
        zoom: Largest relative change of scale; 0.1 draws scales between 0.9 and 1.1.

    Returns:
        Images with the shape and dtype of `images`.
    """
    height, width = images.shape[1:3]
    draws = tf.map_fn(
        lambda seed: tf.random.stateless_uniform([4], seed, -1.0, 1.0), seeds, fn_output_signature=tf.float32
    )
    down, right, turn, scale = tf.unstack(draws, axis=1)
    angle, scale = turn * math.radians(rotation), 1.0 + scale * zoom
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    # `affine_transform` expects a matrix that maps output coordinates, relative to the top left pixel, to input
    # coordinates. This matrix rotates and scales about the center, so the offsets move the center to the origin
    # and back.
    x, y = (width - 1) / 2, (height - 1) / 2
    to_x, to_y = x + right * shift * width, y + down * shift * height
    zero = tf.zeros_like(cos)
    rows = [cos, sin, x - cos * to_x - sin * to_y, -sin, cos, y + sin * to_x - cos * to_y, zero, zero]
    return keras.ops.image.affine_transform(
        images, tf.stack(rows, axis=1), fill_mode="constant", data_format="channels_last"
    )
