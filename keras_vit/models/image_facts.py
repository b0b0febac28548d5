"""How a model takes its images: the statistics, crop and resizing that it was trained with. Imports no Keras."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of images in [0, 1]: one number for all channels, or one for each."""

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    def scale_and_offset(self, channels: int) -> tuple[list[float], list[float]]:
        """Return what normalizes an image in [0, 255] as `scale * image + offset`, one number of each per channel.

        Args:
            channels: Number of channels of the images.

        Raises:
            ValueError: The statistics are of another number of channels.
        """
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


@dataclass(frozen=True)
class ImageFacts:
    """What is known of the images that a model takes.

    Attributes:
        statistics: The mean and standard deviation that normalize an image.
        crop_fraction: Fraction of the resized image's side that evaluation keeps.
        interpolation: How evaluation resizes: "bicubic" or "bilinear".
        source: Where the weights come from, such as "vit_b16.augreg_in21k"; None for random weights.
    """

    statistics: Statistics
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    source: str | None = None

    def to_dict(self) -> dict:
        """Return the attributes in JSON's types; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict) -> "ImageFacts":
        """Return the facts that `to_dict` wrote."""
        mean, std = (
            tuple(value) if isinstance(value, (list, tuple)) else value
            for value in (facts["statistics"]["mean"], facts["statistics"]["std"])
        )
        return cls(**{**facts, "statistics": Statistics(mean, std)})
