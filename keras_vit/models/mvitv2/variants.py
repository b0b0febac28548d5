"""The sizes of MViTv2 and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, release

_SIZES = {  # Channels of the first stage, number of blocks of each stage, and of heads of the first.
    "T": (96, (1, 2, 5, 2), 1),
    "S": (96, (1, 2, 11, 2), 1),
    "B": (96, (2, 3, 16, 3), 1),
    "L": (144, (2, 6, 36, 4), 2),
}


def _variant(size: str) -> Variant:
    channels, depths, num_heads = _SIZES[size]
    return Variant(
        f"mvitv2_{size.lower()}",
        f"MViTv2_{size}",
        "MViTv2",
        {"channels": channels, "depths": depths, "num_heads": num_heads, "expand_in_attention": size != "L"},
        summary=f"MViTv2-{size}: {channels} channels, {sum(depths)} blocks.",
        paper="MViTv2: Improved Multiscale Vision Transformers for Classification and Detection, arXiv 2112.01526, "
        "table 1",
        license="Apache-2.0",
        statistics=IMAGENET,
        crop_fraction=0.9,
    )


FAMILY = Family(
    functions={"MViTv2": "mvitv2"},
    variants=tuple(_variant(size) for size in _SIZES),
    weights=tuple(
        release(
            "fb_in1k",
            IN1K,
            [
                ("mvitv2_t", "mvitv2_tiny", 224, 0.9, 82.410),
                ("mvitv2_s", "mvitv2_small", 224, 0.9, 83.770),
                ("mvitv2_b", "mvitv2_base", 224, 0.9, 84.450),
                ("mvitv2_l", "mvitv2_large", 224, 0.9, 85.244),
            ],
        )
    ),
)
