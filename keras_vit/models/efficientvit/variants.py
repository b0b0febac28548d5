"""The sizes of MIT's EfficientViT, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, release

_SIZES = {  # channels, depths, channels of an attention head, widths of the classifier's hidden layers
    "B0": ((8, 16, 32, 64, 128), (1, 2, 2, 2, 2), 16, (1024, 1280)),
    "B1": ((16, 32, 64, 128, 256), (1, 2, 3, 3, 4), 16, (1536, 1600)),
    "B2": ((24, 48, 96, 192, 384), (1, 3, 4, 4, 6), 32, (2304, 2560)),
    "B3": ((32, 64, 128, 256, 512), (1, 4, 6, 6, 9), 32, (2304, 2560)),
    # L0 was published without a classifier, as the encoder of a segmentation model; the classifier here is L1's.
    "L0": ((32, 64, 128, 256, 512), (1, 1, 1, 4, 4), 32, (3072, 3200)),
    "L1": ((32, 64, 128, 256, 512), (1, 1, 1, 6, 6), 32, (3072, 3200)),
    "L2": ((32, 64, 128, 256, 512), (1, 2, 2, 8, 8), 32, (3072, 3200)),
    "L3": ((64, 128, 256, 512, 1024), (1, 2, 2, 8, 8), 32, (6144, 6400)),
}


def _variant(size: str) -> Variant:
    channels, depths, head_dim, head_channels = _SIZES[size]
    return Variant(
        f"efficientvit_{size.lower()}",
        f"EfficientViT_{size}",
        "EfficientViT",
        {
            "series": size[0],
            "channels": channels,
            "depths": depths,
            "head_dim": head_dim,
            "head_channels": head_channels,
        },
        summary=f"EfficientViT-{size} of MIT: stages of {', '.join(map(str, channels[1:]))} channels.",
        paper="EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction, arXiv 2205.14756",
        license="Apache-2.0",
        statistics=IMAGENET,
    )


_WEIGHTS = [
    *release(
        "r224_in1k",
        IN1K,
        [
            ("efficientvit_b0", "efficientvit_b0", 224, 0.95, None),
            ("efficientvit_b1", "efficientvit_b1", 224, 0.95, 79.39),
            ("efficientvit_b2", "efficientvit_b2", 224, 0.95, 82.10),
            ("efficientvit_b3", "efficientvit_b3", 224, 0.95, 83.47),
            ("efficientvit_l1", "efficientvit_l1", 224, 1.0, 84.48),
            ("efficientvit_l2", "efficientvit_l2", 224, 1.0, 85.05),
            ("efficientvit_l3", "efficientvit_l3", 224, 1.0, 85.81),
        ],
    ),
    *release(
        "r256_in1k",
        IN1K,
        [
            ("efficientvit_b1", "efficientvit_b1", 256, 1.0, 79.92),
            ("efficientvit_b2", "efficientvit_b2", 256, 1.0, 82.70),
            ("efficientvit_b3", "efficientvit_b3", 256, 1.0, 83.81),
            ("efficientvit_l2", "efficientvit_l2", 256, 1.0, 85.37),
            ("efficientvit_l3", "efficientvit_l3", 256, 1.0, 85.94),
        ],
    ),
    *release(
        "r288_in1k",
        IN1K,
        [
            ("efficientvit_b1", "efficientvit_b1", 288, 1.0, 80.41),
            ("efficientvit_b2", "efficientvit_b2", 288, 1.0, 83.09),
            ("efficientvit_b3", "efficientvit_b3", 288, 1.0, 84.15),
            ("efficientvit_l2", "efficientvit_l2", 288, 1.0, 85.63),
        ],
    ),
    *release("r320_in1k", IN1K, [("efficientvit_l3", "efficientvit_l3", 320, 1.0, 86.23)]),
    *release(
        "r384_in1k",
        IN1K,
        [
            ("efficientvit_l2", "efficientvit_l2", 384, 1.0, 85.98),
            ("efficientvit_l3", "efficientvit_l3", 384, 1.0, 86.41),
        ],
    ),
]

FAMILY = Family(
    functions={"EfficientViT": "efficientvit"}, variants=tuple(map(_variant, _SIZES)), weights=tuple(_WEIGHTS)
)
