"""The sizes of ConvMixer and their published checkpoints."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET
from keras_vit.weights.published import IN1K, release

_SIZES = (  # channels, depth, kernel size, patch size, activation
    (768, 32, 7, 7, "relu"),
    (1024, 20, 9, 14, "gelu"),
    (1536, 20, 9, 7, "gelu"),
)


def _variant(channels: int, depth: int, kernel_size: int, patch_size: int, activation: str) -> Variant:
    return Variant(
        f"convmixer_{channels}_{depth}",
        f"ConvMixer_{channels}_{depth}",
        "ConvMixer",
        {
            "channels": channels,
            "depth": depth,
            "kernel_size": kernel_size,
            "patch_size": patch_size,
            "activation": activation,
        },
        summary=f"ConvMixer-{channels}/{depth}: {depth} blocks of {channels} channels, kernels of {kernel_size} x "
        f"{kernel_size}, patches of {patch_size} x {patch_size}.",
        paper="Patches Are All You Need?, arXiv 2201.09792, table 1",
        license="MIT",
        statistics=IMAGENET,
        crop_fraction=0.96,
    )


FAMILY = Family(
    functions={"ConvMixer": "convmixer"},
    variants=tuple(_variant(*size) for size in _SIZES),
    weights=tuple(
        release(
            "in1k",
            IN1K,
            [
                ("convmixer_768_32", "convmixer_768_32", 224, 0.96, 80.168),
                ("convmixer_1024_20", "convmixer_1024_20_ks9_p14", 224, 0.96, 76.936),
                ("convmixer_1536_20", "convmixer_1536_20", 224, 0.96, 81.362),
            ],
            license="MIT",
        )
    ),
)
