"""How images become a model's input: resized and cropped, scaled to [0, 1], then normalized.

Every model has its own resizing and statistics: those it was trained with.
"""

import math
from dataclasses import dataclass

import keras
from keras import ops


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of images in [0, 1]: one number for all channels, or one for each."""

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def scale_and_offset(self, channels: int) -> tuple[list[float], list[float]]:
        """One of each a channel: what takes an image in [0, 255] to scale * image + offset, which is normalized."""
        mean, std = (value if isinstance(value, tuple) else (value,) * channels for value in (self.mean, self.std))
        if len(mean) != channels:
            raise ValueError(
                f"The model was trained with the statistics of {len(mean)} channels; received images of {channels} "
                "channels."
            )
        return [1 / (255 * s) for s in std], [-m / s for m, s in zip(mean, std, strict=True)]


HALF = Statistics(0.5, 0.5)  # To [-1, 1]: ViT's authors.
IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIT = Statistics(0.0, 1.0)  # To [0, 1]: MobileViT's authors.

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
