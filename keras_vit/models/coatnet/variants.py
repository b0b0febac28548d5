"""The sizes of CoAtNet. The authors published no weights."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import HALF

_SIZES = (  # channels of the stem and of the stages, depths
    (64, (96, 192, 384, 768), (2, 3, 5, 2)),
    (64, (96, 192, 384, 768), (2, 6, 14, 2)),
    (128, (128, 256, 512, 1024), (2, 6, 14, 2)),
    (192, (192, 384, 768, 1536), (2, 6, 14, 2)),
    (192, (192, 384, 768, 1536), (2, 12, 28, 2)),
    (192, (256, 512, 1280, 2048), (2, 12, 28, 2)),
)


def _variant(number: int) -> Variant:
    stem_channels, channels, depths = _SIZES[number]
    return Variant(
        f"coatnet_{number}",
        f"CoAtNet_{number}",
        "CoAtNet",
        {
            "stem_channels": stem_channels,
            "channels": channels,
            "depths": depths,
            "representation_size": channels[-1],
        },
        summary=f"CoAtNet-{number}: stages of {', '.join(map(str, channels))} channels and "
        f"{', '.join(map(str, depths))} blocks.",
        paper="CoAtNet, arXiv 2106.04803, table 3",
        license="Apache-2.0",
        statistics=HALF,
        crop_fraction=0.95,
    )


FAMILY = Family(functions={"CoAtNet": "coatnet"}, variants=tuple(map(_variant, range(len(_SIZES)))))
