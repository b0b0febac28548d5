"""Published checkpoints: where they are, under which license, and how their images were prepared. Imports no Keras.

Each family lists its own in `keras_vit/models/<family>/variants.py`. The facts are those of timm 1.0.31 (the
`default_cfgs` tables of timm/models/*.py). Where a checkpoint has another image size than its siblings, timm writes
the size into the model's name ("vit_base_patch16_384.augreg_in21k_ft_in1k"); here it ends the tag ("vit_b16",
"augreg_in21k_ft_in1k_384").
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from keras_vit.models.image_facts import IMAGENET, ImageFacts, Statistics

APACHE = "Apache-2.0"
APPLE = "Apple sample-code license"
_COMMERCIAL = frozenset({APACHE, "BSD-2-Clause", "BSD-3-Clause", "MIT"})

IN1K = "ImageNet-1k"
IN21K = "ImageNet-21k"
IN21K_THEN_IN1K = "ImageNet-21k, then ImageNet-1k"


def grants_commercial_use(license: str) -> bool:
    """Return whether a license, by its SPDX name, plainly allows commercial use; an unknown one does not."""
    return license in _COMMERCIAL


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint.

    Attributes:
        model: Registry name of the model it fits, such as "vit_b16".
        tag: Its name among that model's weights: what `weights=` takes.
        repository: Its repository on the Hugging Face hub.
        license: License of the weights.
        trained_on: The data sets, in order.
        image_size: (height, width) in pixels at which it was last trained or fine-tuned.
        classes: Number of classes of its classifier; None without a classifier.
        top1: ImageNet-1k top-1 accuracy in percent, or None where none was published. timm measured it with this
            preprocessing (results/results-imagenet.csv, commit 0173a139); EfficientViT's are its authors'.
        statistics: Statistics of the images it was trained on.
        crop_fraction: Fraction of the resized image's side that evaluation keeps.
        interpolation: How evaluation resizes: "bicubic" or "bilinear".
        filename: Name of the file in the repository.
    """

    model: str
    tag: str
    repository: str
    license: str
    trained_on: str
    image_size: tuple[int, int]
    classes: int | None
    top1: float | None
    statistics: Statistics
    crop_fraction: float
    interpolation: str = "bicubic"
    filename: str = "model.safetensors"

    @property
    def commercial(self) -> bool:
        """Whether the license plainly allows commercial use."""
        return grants_commercial_use(self.license)

    @property
    def image_facts(self) -> ImageFacts:
        """How a model with these weights takes its images."""
        return ImageFacts(self.statistics, self.crop_fraction, self.interpolation, f"{self.model}.{self.tag}")

    def to_dict(self) -> dict:
        """Return the attributes in JSON's types."""
        facts = asdict(self)
        statistics = facts.pop("statistics")
        return {**facts, **statistics, "commercial": self.commercial}

    def __str__(self):
        height, width = self.image_size
        head = "no classifier" if self.classes is None else f"{self.classes} classes"
        top1 = "" if self.top1 is None else f", top-1 {self.top1:.2f} %"
        return f"{self.model}.{self.tag}: {self.trained_on}, {height} x {width}, {head}{top1}, {self.license}"


def release(
    tag: str,
    trained_on: str,
    rows: Iterable[tuple[str, str, int, float, float | None]],
    *,
    classes: int | None = 1000,
    statistics: Statistics = IMAGENET,
    license: str = APACHE,
) -> list[PublishedWeights]:
    """Return the checkpoints of one of timm's tags.

    Args:
        tag: timm's tag.
        trained_on: The data sets, in order.
        rows: (our name, timm's name, image size in pixels, crop fraction, top-1 accuracy in percent) of each.
        classes: Number of classes of the classifier; None without a classifier.
        statistics: Statistics of the images they were trained on.
        license: License of the weights.
    """
    return [
        PublishedWeights(
            model=model,
            tag=f"{tag}_{size}" if timm_name.endswith("_384") else tag,
            repository=f"timm/{timm_name}.{tag}",
            license=license,
            trained_on=trained_on,
            image_size=(size, size),
            classes=classes,
            top1=top1,
            statistics=statistics,
            crop_fraction=crop,
        )
        for model, timm_name, size, crop, top1 in rows
    ]
