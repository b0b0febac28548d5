"""The sizes of NAT and DiNAT. Their authors publish checkpoints as pickles only, so there are no tags."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET

_HEADS = {64: (2, 4, 8, 16), 96: (3, 6, 12, 24), 128: (4, 8, 16, 32), 192: (6, 12, 24, 48)}
_SIZES = {  # Channels of the first stage, blocks of the third stage, ratio of the MLP.
    "Mini": (64, 6, 3),
    "Tiny": (64, 18, 3),
    "Small": (96, 18, 2),
    "Base": (128, 18, 2),
    "Large": (192, 18, 2),
}
_LAYER_SCALE = {"NAT_Small", "NAT_Base", "DiNAT_Base"}
_DILATIONS = (8, 4, 2, 1)
_PAPER = "Neighborhood Attention Transformer, arXiv 2204.07143, table 3"
_PAPER_DILATED = "Dilated Neighborhood Attention Transformer, arXiv 2209.15001, table 2"


def _variant(family: str, size: str) -> Variant:
    channels, depth, mlp_ratio = _SIZES[size]
    dilated = family == "DiNAT"
    return Variant(
        f"{family}_{size}".lower(),
        f"{family}_{size}",
        "NAT",
        {
            "channels": channels,
            "depths": (3, 4, depth, 5),
            "num_heads": _HEADS[channels],
            "mlp_ratio": mlp_ratio,
            "dilations": _DILATIONS if dilated else None,
            "layer_scale": 1e-5 if f"{family}_{size}" in _LAYER_SCALE else None,
        },
        summary=f"{family}-{size}: {channels} channels, {12 + depth} blocks, neighborhoods of 7 x 7 pixels"
        f"{', dilated in every second block' if dilated else ''}.",
        paper=_PAPER_DILATED if dilated else _PAPER,
        license="MIT",
        statistics=IMAGENET,
        crop_fraction=0.875,
    )


FAMILY = Family(
    functions={"NAT": "nat"},
    variants=tuple(
        _variant(family, size) for family in ("NAT", "DiNAT") for size in _SIZES if (family, size) != ("NAT", "Large")
    ),
)
