"""The sizes of Swin Transformer, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, IN21K, IN21K_THEN_IN1K, release

_SIZES = {  # Channels of the first stage, number of blocks and of heads of each stage.
    "T": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "S": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "B": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "L": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}
_PAPER = "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, arXiv 2103.14030, table 7"
_PAPER_V2 = "Swin Transformer V2: Scaling Up Capacity and Resolution, arXiv 2111.09883, section 4.1"


def _variant(size: str, version: int) -> Variant:
    channels, depths, num_heads = _SIZES[size]
    # The authors have no SwinV2-L with smaller windows.
    window = 7 if version == 1 else (16 if size == "L" else 8)
    prefix = "Swin" if version == 1 else "SwinV2"
    return Variant(
        f"{prefix.lower()}_{size.lower()}",
        f"{prefix}_{size}",
        prefix,
        {"channels": channels, "depths": depths, "num_heads": num_heads, "window": window},
        summary=f"{prefix}-{size}: {channels} channels, {sum(depths)} blocks, windows of {window} x {window} pixels.",
        paper=_PAPER if version == 1 else _PAPER_V2,
        license="MIT",
        statistics=IMAGENET,
        image_size=(224, 224) if version == 1 else (256, 256),
        crop_fraction=0.9,
    )


_WINDOW12 = {"window": 12}
_WINDOW16 = {"window": 16}
_PRETRAINED = (12, 12, 12, 6)  # With 192 x 192 pixels, the last map is smaller than the window.
_WEIGHTS = [
    *release(
        "ms_in1k",
        IN1K,
        [
            ("swin_t", "swin_tiny_patch4_window7_224", 224, 0.9, 81.376),
            ("swin_s", "swin_small_patch4_window7_224", 224, 0.9, 83.208),
            ("swin_b", "swin_base_patch4_window7_224", 224, 0.9, 83.606),
            ("swinv2_t", "swinv2_tiny_window8_256", 256, 0.9, 81.820),
            ("swinv2_s", "swinv2_small_window8_256", 256, 0.9, 83.854),
            ("swinv2_b", "swinv2_base_window8_256", 256, 0.9, 84.250),
        ],
        license="MIT",
    ),
    *release(
        "ms_in1k",
        IN1K,
        [("swin_b", "swin_base_patch4_window12_384", 384, 1.0, 84.476)],
        license="MIT",
        settings=_WINDOW12,
    ),
    *release(
        "ms_in1k",
        IN1K,
        [
            ("swinv2_t", "swinv2_tiny_window16_256", 256, 0.9, 82.804),
            ("swinv2_s", "swinv2_small_window16_256", 256, 0.9, 84.224),
            ("swinv2_b", "swinv2_base_window16_256", 256, 0.9, 84.600),
        ],
        license="MIT",
        settings=_WINDOW16,
        suffix="_window16",
    ),
    *release(
        "ms_in22k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("swin_t", "swin_tiny_patch4_window7_224", 224, 0.9, 80.968),
            ("swin_s", "swin_small_patch4_window7_224", 224, 0.9, 83.298),
            ("swin_b", "swin_base_patch4_window7_224", 224, 0.9, 85.272),
            ("swin_l", "swin_large_patch4_window7_224", 224, 0.9, 86.312),
        ],
        license="MIT",
    ),
    *release(
        "ms_in22k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("swin_b", "swin_base_patch4_window12_384", 384, 1.0, 86.438),
            ("swin_l", "swin_large_patch4_window12_384", 384, 1.0, 87.132),
        ],
        license="MIT",
        settings=_WINDOW12,
    ),
    *release(
        "ms_in22k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("swinv2_b", "swinv2_base_window12to16_192to256", 256, 0.9, 86.268),
            ("swinv2_l", "swinv2_large_window12to16_192to256", 256, 0.9, 86.952),
        ],
        license="MIT",
        settings={"window": 16, "pretrained_windows": _PRETRAINED},
    ),
    *release(
        "ms_in22k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("swinv2_b", "swinv2_base_window12to24_192to384", 384, 1.0, 87.096),
            ("swinv2_l", "swinv2_large_window12to24_192to384", 384, 1.0, 87.464),
        ],
        license="MIT",
        settings={"window": 24, "pretrained_windows": _PRETRAINED},
        suffix="_384",
    ),
    *release(
        "ms_in22k",
        IN21K,
        [
            ("swin_t", "swin_tiny_patch4_window7_224", 224, 0.9, None),
            ("swin_s", "swin_small_patch4_window7_224", 224, 0.9, None),
            ("swin_b", "swin_base_patch4_window7_224", 224, 0.9, None),
            ("swin_l", "swin_large_patch4_window7_224", 224, 0.9, None),
        ],
        classes=21841,
        license="MIT",
    ),
    *release(
        "ms_in22k",
        IN21K,
        [
            ("swin_b", "swin_base_patch4_window12_384", 384, 1.0, None),
            ("swin_l", "swin_large_patch4_window12_384", 384, 1.0, None),
        ],
        classes=21841,
        license="MIT",
        settings=_WINDOW12,
    ),
    *release(
        "ms_in22k",
        IN21K,
        [
            ("swinv2_b", "swinv2_base_window12_192", 192, 0.9, None),
            ("swinv2_l", "swinv2_large_window12_192", 192, 0.9, None),
        ],
        classes=21841,
        license="MIT",
        # Other windows and image sizes keep the distances of this training.
        settings={"window": 12, "pretrained_windows": _PRETRAINED},
    ),
]

FAMILY = Family(
    functions={"Swin": "swin", "SwinV2": "swin_v2"},
    variants=tuple(_variant(size, version) for version in (1, 2) for size in _SIZES),
    weights=tuple(_WEIGHTS),
)
