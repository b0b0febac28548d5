"""The description of a family that its `variants.py` gives. It does not import Keras, so listing models is fast."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keras_vit.models.image_facts import ImageFacts, Statistics
from keras_vit.weights.published import PublishedWeights


@dataclass(frozen=True)
class Variant:
    """One published model.

    Attributes:
        name: Registry name, such as "vit_b16".
        function_name: Name of the public function that builds it, such as "ViT_B16".
        builder: Name of the family's general builder, such as "ViT".
        settings: Keyword-only arguments of the builder that define this variant.
        summary: Description in one line.
        paper: Title and number of the paper, with the table.
        license: License of the reference code.
        statistics: Mean and standard deviation that its training images were normalized with.
        image_size: (height, width) of the paper's images, in pixels.
        crop_fraction: Fraction of the resized image's side that evaluation keeps.
        interpolation: Interpolation with which evaluation resizes: "bicubic" or "bilinear".
    """

    name: str
    function_name: str
    builder: str
    settings: Mapping[str, object]
    summary: str
    paper: str
    license: str
    statistics: Statistics
    image_size: tuple[int, int] = (224, 224)
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"

    @property
    def image_facts(self) -> ImageFacts:
        """How the model takes its images when it has no published weights."""
        return ImageFacts(self.statistics, self.crop_fraction, self.interpolation)


@dataclass(frozen=True)
class Family:
    """A family of models, which `keras_vit/models/<family>/variants.py` defines as `FAMILY`.

    Attributes:
        functions: The family's other public functions, such as its general builders, each with the module in the folder
            that defines it.
        variants: The published models.
        weights: The published checkpoints.
    """

    functions: Mapping[str, str]
    variants: tuple[Variant, ...]
    weights: tuple[PublishedWeights, ...] = field(default=())
