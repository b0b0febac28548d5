"""How images become a model's input: resized and cropped, scaled to [0, 1], then normalized.

Every model has its own resizing and statistics: those it was trained with.
"""

import math

import keras
from keras import ops

from keras_vit.models.statistics import HALF, IMAGENET, UNIT, Statistics

__all__ = ["HALF", "IMAGENET", "NORMALIZATION", "UNIT", "Statistics", "normalize", "resize_and_crop"]


NORMALIZATION = "preprocessing"  # Name of the layer that normalizes within a model.


def normalize(images: keras.KerasTensor, statistics: Statistics) -> keras.KerasTensor:
    """Images in [0, 255] as a model's input, by a layer named `NORMALIZATION` that computes in float32.

    Args:
        images: (batch, height, width, channels).
        statistics: Those the model was trained with.
    """
    scale, offset = statistics.scale_and_offset(images.shape[-1])
    return keras.layers.Rescaling(scale, offset, dtype="float32", name=NORMALIZATION)(images)


def resize_and_crop(images, size: tuple[int, int], crop_fraction: float, interpolation: str):
    """The middle of images at a model's size, as evaluation takes it.

    An image is resized, its aspect kept and with anti-aliasing, until it just covers `size / crop_fraction`; then its
    centre is cut out. For a square this is timm's and torchvision's way: its shorter side becomes
    `floor(side / crop_fraction)` pixels.

    Args:
        images: (batch, height, width, channels) in [0, 255].
        size: (height, width) in pixels.
        crop_fraction: Share of the resized image's side that is kept.
        interpolation: "bicubic" or "bilinear".

    Returns:
        float32 (batch, *size, channels) in [0, 255].
    """
    covered = [math.floor(side / crop_fraction) for side in size]
    before = images.shape[1:3]
    tight = 0 if covered[0] * before[1] > covered[1] * before[0] else 1  # The axis that is covered last.
    resized = [side * covered[tight] // before[tight] for side in before]
    images = ops.cast(images, "float32")
    if resized != list(before):
        images = ops.image.resize(
            images, resized, interpolation=interpolation, antialias=True, data_format="channels_last"
        )
    top, left = (round((whole - side) / 2) for whole, side in zip(resized, size, strict=True))
    images = images[:, top : top + size[0], left : left + size[1]]
    return ops.clip(images, 0.0, 255.0)  # Bicubic overshoots at edges; image files can't.
