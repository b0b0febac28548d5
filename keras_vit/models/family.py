"""What a family's folder says of itself in its `variants.py`. Imports no Keras, so that listing models needs none."""

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
        settings: The builder's keyword-only arguments that make this variant.
        summary: One line that describes it.
        paper: Where it was published, with the table.
        license: License of the reference code.
        statistics: Those of the images it was trained on.
        image_size: (height, width) in pixels that the paper uses.
        crop_fraction: Fraction of the resized image's side that evaluation keeps.
        interpolation: How evaluation resizes: "bicubic" or "bilinear".
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
        """How the model takes its images before it has published weights."""
        return ImageFacts(self.statistics, self.crop_fraction, self.interpolation)


@dataclass(frozen=True)
class Family:
    """A family of models: what `keras_vit/models/<family>/variants.py` defines as `FAMILY`.

    Attributes:
        functions: Public functions other than the variants' own, such as the general builders, each with the module
            of the folder that defines it.
        variants: The published models.
        weights: The published checkpoints.
    """

    functions: Mapping[str, str]
    variants: tuple[Variant, ...]
    weights: tuple[PublishedWeights, ...] = field(default=())
