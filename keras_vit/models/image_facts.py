"""How a model takes its images: normalization, crop and resizing. This module does not import Keras."""

from dataclasses import asdict, dataclass

from keras_vit.utils.normalization import scale_and_offset


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of images in [0, 1], as one number for all channels or one for each channel.

    `(image / 255 - mean) / std` normalizes an image in [0, 255].

    Attributes:
        mean: Mean, subtracted from an image.
        std: Standard deviation, by which the difference is divided.

    Raises:
        ValueError: A standard deviation is 0.
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def __post_init__(self):
        for name in ("mean", "std"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)):
                object.__setattr__(self, name, tuple(float(number) for number in value))
        if 0 in _numbers(self.std):
            raise ValueError(f"std must not be 0; received {self.std}.")

    def for_channels(self, channels: int) -> "Statistics":
        """Return the statistics for images with another number of channels: the means over the channels of these."""
        if all(len(_numbers(value)) in (1, channels) for value in (self.mean, self.std)):
            return self
        return Statistics(*(sum(numbers) / len(numbers) for numbers in map(_numbers, (self.mean, self.std))))

    def scale_and_offset(self, channels: int) -> tuple[list[float], list[float]]:
        """Return the factors and terms that normalize an image in [0, 255] as `scale * image + offset`.

        Args:
            channels: Number of channels of the images.

        Returns:
            (scale, offset), each with one number for each channel.

        Raises:
            ValueError: The statistics are for a different number of channels.
        """
        return scale_and_offset(self.mean, self.std, channels)


def _numbers(value):
    return value if isinstance(value, tuple) else (value,)


HALF = Statistics(0.5, 0.5)  # Scales to [-1, 1], as ViT's authors do.
IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNIT = Statistics(0.0, 1.0)  # Scales to [0, 1], as MobileViT's authors do.


@dataclass(frozen=True)
class ImageFacts:
    """How a model takes its images.

    Attributes:
        statistics: The mean and standard deviation that normalize an image.
        crop_fraction: Fraction of the resized image's side that evaluation keeps.
        interpolation: Interpolation with which evaluation resizes: "bicubic" or "bilinear".
        source: Name and tag of the published weights, such as "vit_b16.augreg_in21k"; None for random weights.
    """

    statistics: Statistics
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    source: str | None = None

    def to_dict(self) -> dict:
        """Return the attributes as a dictionary of JSON types, for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict) -> "ImageFacts":
        """Return the facts from a dictionary that `to_dict` returned."""
        return cls(**{**facts, "statistics": Statistics(**facts["statistics"])})
