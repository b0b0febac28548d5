"""The sizes of CPVT and of Twins, and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import APACHE, IN1K, release

_SIZES = {"Ti": (192, 3), "S": (384, 6), "B": (768, 12)}  # Width and heads.
_PYRAMID = {"channels": (64, 128, 320, 512), "num_heads": (1, 2, 5, 8), "mlp_ratios": (8, 8, 4, 4)}
_TWINS: dict[str, dict] = {
    "PCPVT_S": {**_PYRAMID, "depths": (3, 4, 6, 3)},
    "PCPVT_B": {**_PYRAMID, "depths": (3, 4, 18, 3)},
    "PCPVT_L": {**_PYRAMID, "depths": (3, 8, 27, 3)},
    "SVT_S": {"channels": (64, 128, 256, 512), "num_heads": (2, 4, 8, 16), "depths": (2, 2, 10, 4), "window": 7},
    "SVT_B": {"channels": (96, 192, 384, 768), "num_heads": (3, 6, 12, 24), "depths": (2, 2, 18, 2), "window": 7},
    "SVT_L": {"channels": (128, 256, 512, 1024), "num_heads": (4, 8, 16, 32), "depths": (2, 2, 18, 2), "window": 7},
}


def _cpvt(size: str, gap: bool) -> Variant:
    width, num_heads = _SIZES[size]
    settings = {"width": width, "num_heads": num_heads}
    return Variant(
        f"cpvt_{size.lower()}{'_gap' * gap}",
        f"CPVT_{size}{'_GAP' * gap}",
        "CPVT",
        {**settings, "class_token": False} if gap else settings,
        summary=f"CPVT-{size}{'-GAP' * gap}: 12 blocks of width {width}, {num_heads} heads, and "
        f"{'global average pooling' if gap else 'a class token'}.",
        paper="Conditional Positional Encodings for Vision Transformers, arXiv 2102.10882, table 3",
        license=APACHE,
        statistics=IMAGENET,
    )


def _twins(name: str) -> Variant:
    kind, size = name.split("_")
    settings = _TWINS[name]
    channels = settings["channels"]
    return Variant(
        f"twins_{name.lower()}",
        f"Twins{name}",
        "Twins",
        settings,
        summary=f"Twins-{kind}-{size}: {sum(settings['depths'])} blocks in four stages, of {channels[0]} to "
        f"{channels[-1]} channels{', with attention in windows' * (kind == 'SVT')}.",
        paper="Twins: Revisiting the Design of Spatial Attention in Vision Transformers, arXiv 2104.13840, table 1",
        license=APACHE,
        statistics=IMAGENET,
        crop_fraction=0.9,
    )


FAMILY = Family(
    functions={"CPVT": "cpvt", "Twins": "twins"},
    variants=(*(_cpvt(size, gap) for gap in (False, True) for size in _SIZES), *map(_twins, _TWINS)),
    weights=tuple(
        release(
            "in1k",
            IN1K,
            [
                ("twins_pcpvt_s", "twins_pcpvt_small", 224, 0.9, 81.096),
                ("twins_pcpvt_b", "twins_pcpvt_base", 224, 0.9, 82.710),
                ("twins_pcpvt_l", "twins_pcpvt_large", 224, 0.9, 83.130),
                ("twins_svt_s", "twins_svt_small", 224, 0.9, 81.678),
                ("twins_svt_b", "twins_svt_base", 224, 0.9, 83.122),
                ("twins_svt_l", "twins_svt_large", 224, 0.9, 83.7),
            ],
        )
    ),
)
