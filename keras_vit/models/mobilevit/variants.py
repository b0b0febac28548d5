"""The sizes of MobileViT and MobileViTV2, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import UNIT
from keras_vit.weights.published import APPLE, IN1K, IN21K_THEN_IN1K, release

_SIZES: dict[str, dict] = {
    "XXS": {"channels": (16, 24, 48, 64, 80), "head_channels": 320, "expansion": 2, "widths": (64, 80, 96)},
    "XS": {"channels": (32, 48, 64, 80, 96), "head_channels": 384, "widths": (96, 120, 144)},
    "S": {"channels": (32, 64, 96, 128, 160), "head_channels": 640, "widths": (144, 192, 240)},
}
_PERCENTS = (50, 75, 100, 125, 150, 175, 200)


def _v1(size: str) -> Variant:
    settings = _SIZES[size]
    return Variant(
        f"mobilevit_{size.lower()}",
        f"MobileViT_{size}",
        "MobileViT",
        settings,
        summary=f"MobileViT-{size}: stages of {', '.join(map(str, settings['channels']))} channels.",
        paper="MobileViT, arXiv 2110.02178, table 4",
        license=APPLE,
        statistics=UNIT,
        image_size=(256, 256),
        crop_fraction=256 / 288,
        interpolation="bilinear",
    )


def _v2(percent: int) -> Variant:
    """Return the variant whose stages have `percent` percent of the default channels."""
    channels, widths = (
        tuple(size * percent // 100 for size in sizes) for sizes in ((64, 128, 256, 384, 512), (128, 192, 256))
    )
    return Variant(
        f"mobilevitv2_{percent:03}",
        f"MobileViTV2_{percent:03}",
        "MobileViTV2",
        {"stem_channels": 32 * percent // 100, "channels": channels, "widths": widths},
        summary=f"MobileViTv2-{percent / 100}: stages of {', '.join(map(str, channels))} channels.",
        paper="MobileViTv2, arXiv 2206.02680",
        license=APPLE,
        statistics=UNIT,
        image_size=(256, 256),
        crop_fraction=256 / 288,
    )


_WEIGHTS = [
    *release(
        "cvnets_in1k",
        IN1K,
        [
            ("mobilevit_xxs", "mobilevit_xxs", 256, 0.9, 68.932),
            ("mobilevit_xs", "mobilevit_xs", 256, 0.9, 74.636),
            ("mobilevit_s", "mobilevit_s", 256, 0.9, 78.312),
            ("mobilevitv2_050", "mobilevitv2_050", 256, 0.888, 70.138),
            ("mobilevitv2_075", "mobilevitv2_075", 256, 0.888, 75.608),
            ("mobilevitv2_100", "mobilevitv2_100", 256, 0.888, 78.076),
            ("mobilevitv2_125", "mobilevitv2_125", 256, 0.888, 79.680),
            ("mobilevitv2_150", "mobilevitv2_150", 256, 0.888, 80.370),
            ("mobilevitv2_175", "mobilevitv2_175", 256, 0.888, 80.860),
            ("mobilevitv2_200", "mobilevitv2_200", 256, 0.888, 81.134),
        ],
        statistics=UNIT,
        license=APPLE,
    ),
    *release(
        "cvnets_in22k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("mobilevitv2_150", "mobilevitv2_150", 256, 0.888, 81.488),
            ("mobilevitv2_175", "mobilevitv2_175", 256, 0.888, 81.938),
            ("mobilevitv2_200", "mobilevitv2_200", 256, 0.888, 82.332),
        ],
        statistics=UNIT,
        license=APPLE,
    ),
    *release(
        "cvnets_in22k_ft_in1k_384",
        IN21K_THEN_IN1K,
        [
            ("mobilevitv2_150", "mobilevitv2_150", 384, 1.0, 82.586),
            ("mobilevitv2_175", "mobilevitv2_175", 384, 1.0, 82.938),
            ("mobilevitv2_200", "mobilevitv2_200", 384, 1.0, 83.400),
        ],
        statistics=UNIT,
        license=APPLE,
    ),
]

FAMILY = Family(
    functions={"MobileViT": "mobilevit", "MobileViTV2": "mobilevit_v2"},
    variants=(*map(_v1, _SIZES), *map(_v2, _PERCENTS)),
    weights=tuple(_WEIGHTS),
)
