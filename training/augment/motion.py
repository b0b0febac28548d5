"""Small motions of image batches, as functions of the batch and of one seed for each image."""

from __future__ import annotations

import math

from keras_vit.training.lazy_modules import keras, tf


def affine(images: tf.Tensor, seeds: tf.Tensor, *, shift: float, rotation: float, zoom: float) -> tf.Tensor:
    """Shift, rotate and scale each image by amounts drawn from its seed, and fill the new borders with zeros.

    The three motions are one matrix and one bilinear resampling. Done one after the other, as augmentation
    layers do, each would blur an image of few pixels once more, and large images would take two to three
    times as long.

    Args:
        images: (batch, height, width, channels), float32.
        seeds: (batch, 2), int32 or int64: the random seed of each image.
        shift: Largest shift, as a part of the height and of the width.
        rotation: Largest angle in degrees, either way.
        zoom: Largest change of scale: 0.1 draws scales between 0.9 and 1.1.

    Returns:
        Images of the shape and dtype of `images`.
    """
    height, width = images.shape[1:3]
    draws = tf.map_fn(
        lambda seed: tf.random.stateless_uniform([4], seed, -1.0, 1.0), seeds, fn_output_signature=tf.float32
    )
    down, right, turn, scale = tf.unstack(draws, axis=1)
    angle, scale = turn * math.radians(rotation), 1.0 + scale * zoom
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    # The operation wants the matrix that takes a point of the result, counted from the top left pixel, to a
    # point of the image. Ours turns and scales about the center, so the offsets carry the center there and
    # back.
    x, y = (width - 1) / 2, (height - 1) / 2
    to_x, to_y = x + right * shift * width, y + down * shift * height
    zero = tf.zeros_like(cos)
    rows = [cos, sin, x - cos * to_x - sin * to_y, -sin, cos, y + sin * to_x - cos * to_y, zero, zero]
    return keras.ops.image.affine_transform(
        images, tf.stack(rows, axis=1), fill_mode="constant", data_format="channels_last"
    )
