"""The sizes of CaiT and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, release

_SIZES = {  # width, depth, heads, initial value of the LayerScale, side of the paper's images
    "XXS24": (192, 24, 4, 1e-5, 224),
    "XXS36": (192, 36, 4, 1e-5, 224),
    "XS24": (288, 24, 6, 1e-5, 384),
    "S24": (384, 24, 8, 1e-5, 224),
    "S36": (384, 36, 8, 1e-6, 384),
    "M36": (768, 36, 16, 1e-6, 384),
    "M48": (768, 48, 16, 1e-6, 448),
}


def _variant(size: str) -> Variant:
    width, depth, num_heads, layer_scale, side = _SIZES[size]
    return Variant(
        f"cait_{size.lower()}",
        f"CaiT_{size}",
        "CaiT",
        {"width": width, "depth": depth, "num_heads": num_heads, "layer_scale": layer_scale},
        summary=f"CaiT-{size}: width {width}, {depth} blocks and 2 of class attention, {num_heads} heads.",
        paper="Going deeper with Image Transformers, arXiv 2103.17239, table 3",
        license="Apache-2.0",
        statistics=IMAGENET,
        image_size=(side, side),
        crop_fraction=1.0,
    )


FAMILY = Family(
    functions={"CaiT": "cait"},
    variants=tuple(map(_variant, _SIZES)),
    weights=tuple(
        release(
            "fb_dist_in1k",  # Distilled from a convolutional network, by the authors.
            IN1K,
            [
                ("cait_xxs24", "cait_xxs24_224", 224, 1.0, 78.384),
                ("cait_xxs24", "cait_xxs24_384", 384, 1.0, 80.972),
                ("cait_xxs36", "cait_xxs36_224", 224, 1.0, 79.746),
                ("cait_xxs36", "cait_xxs36_384", 384, 1.0, 82.204),
                ("cait_xs24", "cait_xs24_384", 384, 1.0, 84.062),
                ("cait_s24", "cait_s24_224", 224, 1.0, 83.442),
                ("cait_s24", "cait_s24_384", 384, 1.0, 85.048),
                ("cait_s36", "cait_s36_384", 384, 1.0, 85.454),
                ("cait_m36", "cait_m36_384", 384, 1.0, 86.060),
                ("cait_m48", "cait_m48_448", 448, 1.0, 86.492),
            ],
        )
    ),
)
