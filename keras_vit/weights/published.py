"""Published checkpoints: their repository, license and preprocessing. This module does not import Keras.

Each family lists its checkpoints in `keras_vit/models/<family>/variants.py`. The facts are those of timm 1.0.31 (the
`default_cfgs` tables of timm/models/*.py). If a checkpoint has a different image size than its siblings, timm puts the
size in the name of the model ("vit_base_patch16_384.augreg_in21k_ft_in1k"); here the size is at the end of the tag
("vit_b16", "augreg_in21k_ft_in1k_384").
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from keras_vit.models.image_facts import IMAGENET, ImageFacts, Statistics

APACHE = "Apache-2.0"
APPLE = "Apple sample-code license"
_COMMERCIAL = frozenset({APACHE, "BSD-2-Clause", "BSD-3-Clause", "MIT"})

IN1K = "ImageNet-1k"
IN21K = "ImageNet-21k"
IN21K_THEN_IN1K = "ImageNet-21k, then ImageNet-1k"
IN12K = "ImageNet-12k"  # The 11,821 classes of ImageNet-21k with enough images, by timm's author.
IN12K_THEN_IN1K = "ImageNet-12k, then ImageNet-1k"


def grants_commercial_use(license: str) -> bool:
    """Return whether a license plainly allows commercial use, by its SPDX name. An unknown license does not."""
    return license in _COMMERCIAL


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint.

    Attributes:
        model: Registry name of the model, such as "vit_b16".
        tag: Name of the checkpoint among the weights of the model, which `weights=` takes.
        repository: Repository on the Hugging Face hub.
        license: License of the weights.
        trained_on: The data sets, in order.
        image_size: (height, width) in pixels of the images in the last training or fine-tuning.
        classes: Number of classes of the classifier, or None without a classifier.
        top1: ImageNet-1k top-1 accuracy in percent, or None if none was published. timm measured it with this
            preprocessing (results/results-imagenet.csv, commit 0173a139). For EfficientViT, for ConvNeXt at 224,
            and where it has a single decimal, it is the authors' figure.
        statistics: Mean and standard deviation that the training images were normalized with.
        crop_fraction: Fraction of the resized image's side that evaluation keeps.
        interpolation: Interpolation with which evaluation resizes: "bicubic" or "bilinear".
        filename: Name of the file in the repository.
        settings: Arguments of the model's function that the checkpoint was trained with, if they are not its defaults.
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
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def commercial(self) -> bool:
        """Whether the license plainly allows commercial use."""
        return grants_commercial_use(self.license)

    @property
    def image_facts(self) -> ImageFacts:
        """How a model with these weights takes its images."""
        return ImageFacts(self.statistics, self.crop_fraction, self.interpolation, f"{self.model}.{self.tag}")

    def to_dict(self) -> dict:
        """Return the attributes as a dictionary of JSON types."""
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
    settings: Mapping[str, object] | None = None,
    suffix: str = "",
) -> list[PublishedWeights]:
    """Return the checkpoints of one of timm's tags.

    Args:
        tag: timm's tag.
        trained_on: The data sets, in order.
        rows: (our name, timm's name, image size in pixels, crop fraction, top-1 accuracy in percent) for each one.
        classes: Number of classes of the classifiers, or None without a classifier.
        statistics: Mean and standard deviation that the training images were normalized with.
        license: License of the weights.
        settings: Arguments of the models' functions that the checkpoints were trained with, if not the defaults.
        suffix: What our tags have after timm's, to tell apart models that timm gives different names.
    """
    return [
        PublishedWeights(
            model=model,
            tag=f"{tag}_{size}" if timm_name.endswith("_384") else tag + suffix,
            repository=f"timm/{timm_name}.{tag}",
            license=license,
            trained_on=trained_on,
            image_size=(size, size),
            classes=classes,
            top1=top1,
            statistics=statistics,
            crop_fraction=crop,
            settings=settings or {},
        )
        for model, timm_name, size, crop, top1 in rows
    ]
