"""The sizes of Microsoft Research's EfficientViT, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, release

_SIZES = {  # channels, depths, heads, kernel sizes
    "M0": ((64, 128, 192), (1, 2, 3), (4, 4, 4), (5, 5, 5, 5)),
    "M1": ((128, 144, 192), (1, 2, 3), (2, 3, 3), (7, 5, 3, 3)),
    "M2": ((128, 192, 224), (1, 2, 3), (4, 3, 2), (7, 5, 3, 3)),
    "M3": ((128, 240, 320), (1, 2, 3), (4, 3, 4), (5, 5, 5, 5)),
    "M4": ((128, 256, 384), (1, 2, 3), (4, 4, 4), (7, 5, 3, 3)),
    "M5": ((192, 288, 384), (1, 3, 4), (3, 3, 4), (7, 5, 3, 3)),
}


def _variant(size: str) -> Variant:
    channels, depths, num_heads, kernel_sizes = _SIZES[size]
    return Variant(
        f"efficientvit_{size.lower()}",
        f"EfficientViT_{size}",
        "EfficientViT_MSRA",
        {"channels": channels, "depths": depths, "num_heads": num_heads, "kernel_sizes": kernel_sizes},
        summary=f"EfficientViT-{size} of Microsoft Research: stages of {', '.join(map(str, channels))} channels.",
        paper="EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention, arXiv 2305.07027",
        license="MIT",
        statistics=IMAGENET,
    )


_WEIGHTS = [
    *release(
        "r224_in1k",
        IN1K,
        [
            ("efficientvit_m0", "efficientvit_m0", 224, 0.875, 63.296),
            ("efficientvit_m1", "efficientvit_m1", 224, 0.875, 68.356),
            ("efficientvit_m2", "efficientvit_m2", 224, 0.875, 70.786),
            ("efficientvit_m3", "efficientvit_m3", 224, 0.875, 73.390),
            ("efficientvit_m4", "efficientvit_m4", 224, 0.875, 74.266),
            ("efficientvit_m5", "efficientvit_m5", 224, 0.875, 77.124),
        ],
        license="MIT",
    ),
]

FAMILY = Family(
    functions={"EfficientViT_MSRA": "efficientvit_msra"},
    variants=tuple(map(_variant, _SIZES)),
    weights=tuple(_WEIGHTS),
)
