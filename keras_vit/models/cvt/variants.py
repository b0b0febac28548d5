"""The sizes of CvT and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import APACHE, IN1K, IN21K_THEN_IN1K, PublishedWeights

_SETTINGS: dict[str, dict] = {
    "13": {"depths": (1, 2, 10)},
    "21": {"depths": (1, 4, 16)},
    "W24": {"channels": (192, 768, 1024), "depths": (2, 2, 20), "num_heads": (3, 12, 16)},
}
_CHECKPOINTS = (  # Size, tag, the end of the repository's name, side of the images, data, the paper's top-1 in percent.
    ("13", "in1k", "", 224, IN1K, 81.6),
    ("13", "in1k_384", "-384", 384, IN1K, 83.0),
    ("13", "in22k_ft_in1k_384", "-384-22k", 384, IN21K_THEN_IN1K, 83.3),
    ("21", "in1k", "", 224, IN1K, 82.5),
    ("21", "in1k_384", "-384", 384, IN1K, 83.3),
    ("21", "in22k_ft_in1k_384", "-384-22k", 384, IN21K_THEN_IN1K, 84.9),
    ("W24", "in22k_ft_in1k_384", "-384-22k", 384, IN21K_THEN_IN1K, 87.6),
)


def _variant(size: str) -> Variant:
    settings = _SETTINGS[size]
    side = 384 if size == "W24" else 224
    return Variant(
        f"cvt_{size.lower()}",
        f"CvT_{size}",
        "CvT",
        settings,
        summary=f"CvT-{size}: {sum(settings['depths'])} blocks in three stages, of "
        f"{settings.get('channels', (64,))[0]} to {settings.get('channels', (384,))[-1]} channels.",
        paper="CvT: Introducing Convolutions to Vision Transformers, arXiv 2103.15808, table 2",
        license="MIT",
        statistics=IMAGENET,
        image_size=(side, side),
    )


def _checkpoint(size: str, tag: str, suffix: str, side: int, trained_on: str, top1: float) -> PublishedWeights:
    """Return a checkpoint of the authors in the names of Hugging Face's transformers."""
    return PublishedWeights(
        model=f"cvt_{size.lower()}",
        tag=tag,
        repository=f"microsoft/cvt-{size.lower()}{suffix}",
        license=APACHE,
        trained_on=trained_on,
        image_size=(side, side),
        classes=1000,
        top1=top1,
        statistics=IMAGENET,
        crop_fraction=0.875 if side == 224 else 1.0,
    )


FAMILY = Family(
    functions={"CvT": "cvt"},
    variants=tuple(map(_variant, _SETTINGS)),
    weights=tuple(_checkpoint(*facts) for facts in _CHECKPOINTS),
)
