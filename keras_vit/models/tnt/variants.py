"""The sizes of TNT and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import HALF
from keras_vit.weights.published import IN1K, release

_LICENSE = "tnt_pytorch/License.txt of huawei-noah/Efficient-AI-Backbones"
_SIZES = {"S": (384, 24, 6), "B": (640, 40, 10)}  # Width of a patch and of a pixel, and heads.


def _variant(size: str) -> Variant:
    width, pixel_width, num_heads = _SIZES[size]
    return Variant(
        f"tnt_{size.lower()}",
        f"TNT_{size}",
        "TNT",
        {"width": width, "pixel_width": pixel_width, "num_heads": num_heads},
        summary=f"TNT-{size}: 12 blocks, patches of width {width} with 16 pixels of width {pixel_width}.",
        paper="Transformer in Transformer, arXiv 2103.00112, table 1",
        license=_LICENSE,
        statistics=HALF,
        crop_fraction=0.9,
    )


FAMILY = Family(
    functions={"TNT": "tnt"},
    variants=tuple(map(_variant, _SIZES)),
    weights=tuple(
        release(
            "in1k",
            IN1K,
            [
                ("tnt_s", "tnt_s_patch16_224", 224, 0.9, 81.5),
                ("tnt_b", "tnt_b_patch16_224", 224, 0.9, 82.9),
            ],
            statistics=HALF,
            license=_LICENSE,
        )
    ),
)
