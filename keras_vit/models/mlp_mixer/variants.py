"""The sizes of MLP-Mixer and their published checkpoints."""

import dataclasses

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import HALF, UNIT
from keras_vit.weights.published import IN21K, IN21K_THEN_IN1K, release

_SIZES = {  # width, depth, units of the MLPs over the tokens and over the channels
    "S": (512, 8, 256, 2048),
    "B": (768, 12, 384, 3072),
    "L": (1024, 24, 512, 4096),
}
_MIXERS = (("S", 32), ("S", 16), ("B", 32), ("B", 16), ("L", 32), ("L", 16))


def _variant(size: str, patch: int) -> Variant:
    width, depth, token_mlp_dim, channel_mlp_dim = _SIZES[size]
    return Variant(
        f"mixer_{size.lower()}{patch}",
        f"Mixer_{size}{patch}",
        "MLPMixer",
        {
            "patch_size": patch,
            "width": width,
            "depth": depth,
            "token_mlp_dim": token_mlp_dim,
            "channel_mlp_dim": channel_mlp_dim,
        },
        summary=f"Mixer-{size}/{patch}: width {width}, {depth} blocks, patches of {patch} x {patch}.",
        paper="MLP-Mixer, arXiv 2105.01601, table 1",
        license="Apache-2.0",
        statistics=HALF,
    )


_IN21K_P = "ImageNet-21k-P"  # The cleaned data set of Ridnik et al., arXiv 2104.10972, with 11,221 classes.
_WEIGHTS = [
    *release(
        "goog_in21k_ft_in1k",
        IN21K_THEN_IN1K,
        [
            ("mixer_b16", "mixer_b16_224", 224, 0.875, 76.602),
            ("mixer_l16", "mixer_l16_224", 224, 0.875, 72.054),
        ],
        statistics=HALF,
    ),
    *release(
        "goog_in21k",
        IN21K,
        [
            ("mixer_b16", "mixer_b16_224", 224, 0.875, None),
            ("mixer_l16", "mixer_l16_224", 224, 0.875, None),
        ],
        classes=21843,
        statistics=HALF,
    ),
    *(
        dataclasses.replace(record, interpolation="bilinear")
        for record in (
            *release(
                "miil_in21k_ft_in1k",
                f"{_IN21K_P}, then ImageNet-1k",
                [("mixer_b16", "mixer_b16_224", 224, 0.875, 82.306)],
                statistics=UNIT,
            ),
            *release(
                "miil_in21k",
                _IN21K_P,
                [("mixer_b16", "mixer_b16_224", 224, 0.875, None)],
                classes=11221,
                statistics=UNIT,
            ),
        )
    ),
]

FAMILY = Family(
    functions={"MLPMixer": "mlp_mixer"},
    variants=tuple(_variant(*size) for size in _MIXERS),
    weights=tuple(_WEIGHTS),
)
