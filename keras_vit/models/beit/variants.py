"""The sizes of BEiT, and the published checkpoints of BEiT and BEiT v2."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import HALF, IMAGENET
from keras_vit.weights.published import IN1K, IN21K, release

_SIZES = {  # width, depth, heads, initial LayerScale
    "B": (768, 12, 12, 0.1),
    "L": (1024, 24, 16, 1e-5),
}


def _variant(size: str) -> Variant:
    width, depth, heads, layer_scale = _SIZES[size]
    return Variant(
        f"beit_{size.lower()}16",
        f"BEiT_{size}16",
        "BEiT",
        {"patch_size": 16, "width": width, "depth": depth, "num_heads": heads, "layer_scale": layer_scale},
        summary=f"BEiT {size}/16: width {width}, {depth} blocks, {heads} heads, patches of 16 x 16.",
        paper="BEiT: BERT Pre-Training of Image Transformers, arXiv 2106.08254, section 3.1",
        license="MIT",
        statistics=HALF,
        crop_fraction=0.9,
    )


_WEIGHTS = [
    *release(
        "in22k_ft_in22k_in1k",
        f"{IN21K} without labels, {IN21K}, then {IN1K}",
        [
            ("beit_b16", "beit_base_patch16_224", 224, 0.9, 85.212),
            ("beit_b16", "beit_base_patch16_384", 384, 1.0, 86.804),
            ("beit_l16", "beit_large_patch16_224", 224, 0.9, 87.476),
            ("beit_l16", "beit_large_patch16_384", 384, 1.0, 88.402),
        ],
        statistics=HALF,
        license="MIT",
    ),
    *release(
        "in22k_ft_in22k",
        f"{IN21K} without labels, then {IN21K}",
        [
            ("beit_b16", "beit_base_patch16_224", 224, 0.9, None),
            ("beit_l16", "beit_large_patch16_224", 224, 0.9, None),
        ],
        classes=21841,
        statistics=HALF,
        license="MIT",
    ),
    # BEiT v2 (Peng et al., arXiv 2208.06366).
    *release(
        "in1k_ft_in22k_in1k",
        f"{IN1K} without labels, {IN21K}, then {IN1K}",
        [
            ("beit_b16", "beitv2_base_patch16_224", 224, 0.9, 86.474),
            ("beit_l16", "beitv2_large_patch16_224", 224, 0.95, 88.394),
        ],
        statistics=IMAGENET,
        license="MIT",
    ),
    *release(
        "in1k_ft_in1k",
        f"{IN1K} without labels, then {IN1K}",
        [
            ("beit_b16", "beitv2_base_patch16_224", 224, 0.9, 85.594),
            ("beit_l16", "beitv2_large_patch16_224", 224, 0.95, 87.412),
        ],
        statistics=IMAGENET,
        license="MIT",
    ),
]

FAMILY = Family(functions={"BEiT": "beit"}, variants=tuple(_variant(size) for size in _SIZES), weights=tuple(_WEIGHTS))
