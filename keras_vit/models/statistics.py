"""Means and standard deviations that images are normalized by. It needs no Keras."""

from dataclasses import dataclass


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
