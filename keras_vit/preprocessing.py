"""How images become a model's input: scaled to [0, 1], then normalized by the statistics the model was trained with."""

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of images in [0, 1]: one number for all channels, or one for each."""

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]


HALF = Statistics(0.5, 0.5)  # To [-1, 1]: ViT's authors.
IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIT = Statistics(0.0, 1.0)  # To [0, 1]: MobileViT's authors.


def normalize(images: keras.KerasTensor, statistics: Statistics) -> keras.KerasTensor:
    """Images in [0, 255] as a model's input, by a layer "preprocessing" that computes in float32.

    Args:
        images: (batch, height, width, channels).
        statistics: Those the model was trained with.
    """
    channels = images.shape[-1]
    mean, std = (
        value if isinstance(value, tuple) else (value,) * channels for value in (statistics.mean, statistics.std)
    )
    if len(mean) != channels:
        raise ValueError(
            f"include_preprocessing normalizes the {len(mean)} channels the model was trained with; received images "
            f"of {channels} channels."
        )
    return keras.layers.Rescaling(
        [1 / (255 * s) for s in std],
        [-m / s for m, s in zip(mean, std, strict=True)],
        dtype="float32",
        name="preprocessing",
    )(images)
