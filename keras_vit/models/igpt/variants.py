"""The sizes of iGPT.

The authors publish TensorFlow checkpoints, and the Hugging Face hub has copies of them as pickles. Neither can be
downloaded as safetensors, so that there are no tags; see `iGPT` for how to load such a file.
"""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import HALF

_SIZES = {  # width, depth, heads
    "S": (512, 24, 8),
    "M": (1024, 36, 8),
    "L": (1536, 48, 16),
}


def _variant(size: str) -> Variant:
    width, depth, heads = _SIZES[size]
    return Variant(
        f"igpt_{size.lower()}",
        f"iGPT_{size}",
        "iGPT",
        {"width": width, "depth": depth, "num_heads": heads},
        summary=f"iGPT-{size}: width {width}, {depth} blocks, {heads} heads, 1024 pixels of 512 colors.",
        paper="Generative Pretraining from Pixels, ICML 2020, section 3.4",
        license="modified MIT",
        statistics=HALF,
        image_size=(32, 32),
        crop_fraction=1.0,
    )


FAMILY = Family(
    functions={
        "iGPT": "igpt",
        "set_colors": "colors",
        "model_of_colors": "colors",
        "complete_images": "sampling",
        "next_color_model": "next_color",
        "probe_model": "probing",
    },
    variants=tuple(_variant(size) for size in _SIZES),
)
