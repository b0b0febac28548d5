"""The sizes of XCiT and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, release

_SIZES = {  # width, depth, heads
    "Nano12": (128, 12, 4),
    "Tiny12": (192, 12, 4),
    "Tiny24": (192, 24, 4),
    "Small12": (384, 12, 8),
    "Small24": (384, 24, 8),
    "Medium24": (512, 24, 8),
    "Large24": (768, 24, 16),
}
_PATCHES = (16, 8)
# ImageNet-1k top-1 accuracy in percent of the authors' checkpoints: as trained, distilled, and distilled at 384 x 384.
_TOP1 = {
    ("Nano12", 16): (69.962, 72.310, 75.458),
    ("Tiny12", 16): (77.140, 78.574, 80.938),
    ("Tiny24", 16): (79.448, 80.454, 82.570),
    ("Small12", 16): (81.970, 83.328, 84.712),
    ("Small24", 16): (82.580, 83.874, 85.090),
    ("Medium24", 16): (82.640, 84.286, 85.422),
    ("Large24", 16): (82.900, 84.916, 85.754),
    ("Nano12", 8): (73.916, 76.332, 77.820),
    ("Tiny12", 8): (79.688, 81.212, 82.388),
    ("Tiny24", 8): (81.892, 82.566, 83.746),
    ("Small12", 8): (83.332, 84.236, 85.078),
    ("Small24", 8): (83.834, 84.868, 85.554),
    ("Medium24", 8): (83.748, 85.074, 85.816),
    ("Large24", 8): (84.394, 85.402, 85.996),
}


def _name(size: str, patch: int) -> str:
    return f"xcit_{size.lower()}_p{patch}"


def _variant(size: str, patch: int) -> Variant:
    width, depth, num_heads = _SIZES[size]
    return Variant(
        _name(size, patch),
        f"XCiT_{size}_P{patch}",
        "XCiT",
        {
            "patch_size": patch,
            "width": width,
            "depth": depth,
            "num_heads": num_heads,
            "norm_all_tokens": size != "Nano12",
            "layer_scale": 1.0 if depth == 12 else 1e-5,
        },
        summary=f"XCiT-{size}/{patch}: width {width}, {depth} blocks and 2 of class attention, {num_heads} heads, "
        f"patches of {patch} x {patch}.",
        paper="XCiT, arXiv 2106.09681, table 1",
        license="Apache-2.0",
        statistics=IMAGENET,
        crop_fraction=1.0,
    )


def _release(tag: str, side: int, column: int):
    """Return the authors' checkpoints of all sizes with a tag, at one image size."""
    rows = []
    for (size, patch), accuracies in _TOP1.items():
        timm_name = f"xcit_{size.rstrip('0123456789').lower()}_{size[-2:]}_p{patch}_{side}"
        rows.append((_name(size, patch), timm_name, side, 1.0, accuracies[column]))
    return release(tag, IN1K, rows)


FAMILY = Family(
    functions={"XCiT": "xcit"},
    variants=tuple(_variant(size, patch) for size in _SIZES for patch in _PATCHES),
    weights=(*_release("fb_in1k", 224, 0), *_release("fb_dist_in1k", 224, 1), *_release("fb_dist_in1k", 384, 2)),
)
