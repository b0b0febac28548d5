"""The sizes of Mobile-Former.

The authors publish their weights without a license, as pickles on a personal drive, so no checkpoints are listed.
"""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET

# Blocks after the first one: hidden channels, output channels, strides.
_ROWS_26M = (
    (36, 12, 1), (72, 24, 2), (72, 24, 1), (144, 48, 2), (192, 48, 1), (288, 64, 1), (384, 96, 2), (576, 96, 1),
)  # fmt: skip
_ROWS_96M = (
    (72, 16, 2), (96, 32, 2), (96, 32, 1), (192, 64, 2), (256, 64, 1), (384, 88, 1), (528, 128, 2), (768, 128, 1),
)  # fmt: skip
_ROWS_151M = (
    (72, 16, 2), (48, 16, 1), (96, 32, 2), (96, 32, 1), (192, 64, 2), (256, 64, 1), (384, 88, 1), (528, 88, 1),
    (528, 128, 2), (768, 128, 1), (768, 128, 1),
)  # fmt: skip
_ROWS_214M = (
    (72, 20, 2), (60, 20, 1), (120, 40, 2), (160, 40, 1), (240, 80, 2), (320, 80, 1), (480, 112, 1), (672, 112, 1),
    (672, 160, 2), (960, 160, 1), (960, 160, 1),
)  # fmt: skip
_ROWS_294M = (
    (96, 24, 2), (96, 24, 1), (144, 48, 2), (192, 48, 1), (288, 96, 2), (384, 96, 1), (576, 128, 1), (768, 128, 1),
    (768, 192, 2), (1152, 192, 1), (1152, 192, 1),
)  # fmt: skip
_ROWS_508M = (
    (144, 40, 2), (120, 40, 1), (240, 72, 2), (216, 72, 1), (432, 128, 2), (512, 128, 1), (768, 176, 1),
    (1056, 176, 1), (1056, 240, 2), (1440, 240, 1), (1440, 240, 1),
)  # fmt: skip
_SIZES = {  # stem channels, first block, other blocks, groups, tokens, width of a token, units of the hidden layer
    "26M": (8, (24, 12, 2), _ROWS_26M, 4, 3, 128, 1024),
    "52M": (8, (24, 12, 2), _ROWS_26M, 1, 3, 128, 1024),
    "96M": (12, (24, 12, 1), _ROWS_96M, 1, 4, 128, 1280),
    "151M": (12, (24, 12, 1), _ROWS_151M, 1, 6, 192, 1280),
    "214M": (12, (24, 12, 1), _ROWS_214M, 1, 6, 192, 1600),
    "294M": (16, (32, 16, 1), _ROWS_294M, 1, 6, 192, 1920),
    "508M": (24, (48, 24, 1), _ROWS_508M, 1, 6, 192, 1920),
}


def _variant(size: str) -> Variant:
    stem, lite, rows, groups, tokens, width, head_width = _SIZES[size]
    return Variant(
        f"mobile_former_{size.lower()}",
        f"MobileFormer_{size}",
        "MobileFormer",
        {
            "stem_channels": stem,
            "lite_row": lite,
            "rows": rows,
            "groups": groups,
            "num_tokens": tokens,
            "token_width": width,
            "head_width": head_width,
        },
        summary=f"Mobile-Former-{size}: {1 + len(rows)} blocks, {tokens} tokens of width {width}.",
        paper="Mobile-Former: Bridging MobileNet and Transformer, arXiv 2108.05895",
        license="none given",
        statistics=IMAGENET,
        interpolation="bilinear",
    )


FAMILY = Family(functions={"MobileFormer": "mobile_former"}, variants=tuple(map(_variant, _SIZES)))
