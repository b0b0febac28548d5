"""The sizes of the Pyramid Vision Transformer and its version 2, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import APACHE, IN1K, PublishedWeights, release

_PAPER = "Pyramid Vision Transformer, arXiv 2102.12122, table 1"
_PAPER_V2 = "PVT v2: Improved Baselines with Pyramid Vision Transformer, arXiv 2106.13797, table 1"
_DEPTHS = {"T": (2, 2, 2, 2), "S": (3, 4, 6, 3), "M": (3, 4, 18, 3), "L": (3, 8, 27, 3)}
# The name of the authors' checkpoint, and their ImageNet-1k top-1 accuracy in percent.
_CHECKPOINTS = {"T": ("tiny", 75.1), "S": ("small", 79.8), "M": ("medium", 81.2), "L": ("large", 81.7)}
_WIDE = (64, 128, 320, 512)
_SETTINGS_V2: dict[str, dict] = {
    "B0": {"channels": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
    "B1": {"channels": _WIDE, "depths": (2, 2, 2, 2)},
    "B2": {"channels": _WIDE, "depths": (3, 4, 6, 3)},
    "B2_Li": {"channels": _WIDE, "depths": (3, 4, 6, 3), "pooled_side": 7},
    "B3": {"channels": _WIDE, "depths": (3, 4, 18, 3)},
    "B4": {"channels": _WIDE, "depths": (3, 8, 27, 3)},
    "B5": {"channels": _WIDE, "depths": (3, 6, 40, 3), "mlp_ratios": (4, 4, 4, 4)},
}


def _variant(size: str) -> Variant:
    depths, name = _DEPTHS[size], _CHECKPOINTS[size][0].capitalize()
    return Variant(
        f"pvt_{size.lower()}",
        f"PVT_{size}",
        "PVT",
        {"depths": depths},
        summary=f"PVT-{name}: {sum(depths)} blocks in four stages, of 64 to 512 channels.",
        paper=_PAPER,
        license=APACHE,
        statistics=IMAGENET,
    )


def _variant_v2(size: str) -> Variant:
    settings = _SETTINGS_V2[size]
    channels, depths = settings["channels"], settings["depths"]
    return Variant(
        f"pvtv2_{size.lower()}",
        f"PVTv2_{size}",
        "PVTv2",
        settings,
        summary=f"PVT v2-{size.replace('_', '-')}: {sum(depths)} blocks in four stages, of {channels[0]} to "
        f"{channels[-1]} channels{', which attend to 7 x 7 averages' if 'pooled_side' in settings else ''}.",
        paper=_PAPER_V2,
        license=APACHE,
        statistics=IMAGENET,
        crop_fraction=0.9,
    )


def _converted(size: str) -> PublishedWeights:
    """Return the authors' checkpoint of version 1, as its converter to transformers published it."""
    name, top1 = _CHECKPOINTS[size]
    return PublishedWeights(
        model=f"pvt_{size.lower()}",
        tag="in1k",
        repository=f"Zetatech/pvt-{name}-224",
        license=APACHE,
        trained_on=IN1K,
        image_size=(224, 224),
        classes=1000,
        top1=top1,
        statistics=IMAGENET,
        crop_fraction=0.875,
    )


FAMILY = Family(
    functions={"PVT": "pvt", "PVTv2": "pvt_v2"},
    variants=(*map(_variant, _DEPTHS), *map(_variant_v2, _SETTINGS_V2)),
    weights=(
        *map(_converted, _DEPTHS),
        *release(
            "in1k",
            IN1K,
            [
                ("pvtv2_b0", "pvt_v2_b0", 224, 0.9, 70.660),
                ("pvtv2_b1", "pvt_v2_b1", 224, 0.9, 78.702),
                ("pvtv2_b2", "pvt_v2_b2", 224, 0.9, 82.086),
                ("pvtv2_b2_li", "pvt_v2_b2_li", 224, 0.9, 82.194),
                ("pvtv2_b3", "pvt_v2_b3", 224, 0.9, 83.120),
                ("pvtv2_b4", "pvt_v2_b4", 224, 0.9, 83.6),
                ("pvtv2_b5", "pvt_v2_b5", 224, 0.9, 83.8),
            ],
        ),
    ),
)
