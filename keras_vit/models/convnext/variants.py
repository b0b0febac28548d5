"""The sizes of ConvNeXt, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, IN12K, IN12K_THEN_IN1K, IN21K, IN21K_THEN_IN1K, release

_PAPER = "A ConvNet for the 2020s, arXiv 2201.03545, "
_SIZES = {  # Channels of each stage, number of blocks of each stage.
    "Atto": ((40, 80, 160, 320), (2, 2, 6, 2)),
    "Femto": ((48, 96, 192, 384), (2, 2, 6, 2)),
    "Pico": ((64, 128, 256, 512), (2, 2, 6, 2)),
    "Nano": ((80, 160, 320, 640), (2, 2, 8, 2)),
    "T": ((96, 192, 384, 768), (3, 3, 9, 3)),
    "S": ((96, 192, 384, 768), (3, 3, 27, 3)),
    "B": ((128, 256, 512, 1024), (3, 3, 27, 3)),
    "L": ((192, 384, 768, 1536), (3, 3, 27, 3)),
    "XL": ((256, 512, 1024, 2048), (3, 3, 27, 3)),
}


def _variant(size: str) -> Variant:
    channels, depths = _SIZES[size]
    return Variant(
        f"convnext_{size.lower()}",
        f"ConvNeXt_{size}",
        "ConvNeXt",
        {"channels": channels, "depths": depths},
        summary=f"ConvNeXt-{size}: stages of {', '.join(map(str, channels))} channels.",
        # timm's author made the small sizes.
        paper=_PAPER + ("table 9" if len(size) < 3 else "in a size of timm"),
        license="MIT" if len(size) < 3 else "Apache-2.0",
        statistics=IMAGENET,
    )


_WEIGHTS = [
    # timm evaluates the checkpoints for 224 at 288; the accuracies given here are those at 224, of the authors, and of
    # timm's release notes for the small sizes.
    *release(
        "fb_in1k",
        IN1K,
        [
            ("convnext_t", "convnext_tiny", 224, 0.875, 82.1),
            ("convnext_s", "convnext_small", 224, 0.875, 83.1),
            ("convnext_b", "convnext_base", 224, 0.875, 83.8),
            ("convnext_l", "convnext_large", 224, 0.875, 84.3),
        ],
    ),
    *release(
        "fb_in22k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("convnext_t", "convnext_tiny", 224, 0.875, 82.9),
            ("convnext_s", "convnext_small", 224, 0.875, 84.6),
            ("convnext_b", "convnext_base", 224, 0.875, 85.8),
            ("convnext_l", "convnext_large", 224, 0.875, 86.6),
            ("convnext_xl", "convnext_xlarge", 224, 0.875, 87.0),
        ],
    ),
    *release(
        "fb_in22k_ft_in1k_384",
        IN21K_THEN_IN1K,
        [
            ("convnext_t", "convnext_tiny", 384, 1.0, 84.088),
            ("convnext_s", "convnext_small", 384, 1.0, 85.778),
            ("convnext_b", "convnext_base", 384, 1.0, 86.796),
            ("convnext_l", "convnext_large", 384, 1.0, 87.472),
            ("convnext_xl", "convnext_xlarge", 384, 1.0, 87.752),
        ],
    ),
    *release(
        "fb_in22k",
        IN21K,
        [
            ("convnext_t", "convnext_tiny", 224, 0.875, None),
            ("convnext_s", "convnext_small", 224, 0.875, None),
            ("convnext_b", "convnext_base", 224, 0.875, None),
            ("convnext_l", "convnext_large", 224, 0.875, None),
            ("convnext_xl", "convnext_xlarge", 224, 0.875, None),
        ],
        classes=21841,
    ),
    *release("d2_in1k", IN1K, [("convnext_atto", "convnext_atto", 224, 0.875, 75.7)]),
    *release(
        "d1_in1k",
        IN1K,
        [
            ("convnext_femto", "convnext_femto", 224, 0.875, 77.5),
            ("convnext_pico", "convnext_pico", 224, 0.875, 79.5),
        ],
    ),
    *release("d1h_in1k", IN1K, [("convnext_nano", "convnext_nano", 224, 0.95, 80.8)]),
    *release(
        "in12k_ft_in1k",
        IN12K_THEN_IN1K,
        [
            ("convnext_nano", "convnext_nano", 224, 0.95, None),
            ("convnext_t", "convnext_tiny", 224, 0.95, None),
            ("convnext_s", "convnext_small", 224, 0.95, None),
        ],
    ),
    *release(
        "in12k_ft_in1k_384",
        IN12K_THEN_IN1K,
        [
            ("convnext_t", "convnext_tiny", 384, 1.0, 85.122),
            ("convnext_s", "convnext_small", 384, 1.0, 86.182),
        ],
    ),
    *release(
        "in12k",
        IN12K,
        [
            ("convnext_nano", "convnext_nano", 224, 0.95, None),
            ("convnext_t", "convnext_tiny", 224, 0.95, None),
            ("convnext_s", "convnext_small", 224, 0.95, None),
        ],
        classes=11821,
    ),
]

FAMILY = Family(
    functions={"ConvNeXt": "convnext"},
    variants=tuple(map(_variant, _SIZES)),
    weights=tuple(_WEIGHTS),
)
