"""The sizes of T2T-ViT. The authors publish checkpoints as pickles only, so there are no tags."""

from keras_vit.models.family import Family, Variant
from keras_vit.models.image_facts import IMAGENET

_SIZES = {  # Width, heads, ratio of the MLP.
    7: (256, 4, 2),
    10: (256, 4, 2),
    12: (256, 4, 2),
    14: (384, 6, 3),
    19: (448, 7, 3),
    24: (512, 8, 3),
}


def _variant(depth: int, tokens_attention: str) -> Variant:
    width, num_heads, mlp_ratio = _SIZES[depth]
    prefix = "t_" if tokens_attention == "transformer" else ""
    return Variant(
        f"t2t_{prefix}{depth}",
        f"T2T_{prefix}{depth}",
        "T2T",
        {
            "width": width,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_dim": mlp_ratio * width,
            "tokens_attention": tokens_attention,
        },
        summary=f"T2T-ViT-{prefix.replace('_', '-')}{depth}: width {width}, {depth} blocks, {num_heads} heads, "
        f"{tokens_attention} between the soft splits.",
        paper="Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet, arXiv 2101.11986, table 2",
        license="BSD-3-Clause-Clear",
        statistics=IMAGENET,
        crop_fraction=0.9,
    )


FAMILY = Family(
    functions={"T2T": "t2t"},
    variants=tuple(
        _variant(depth, kind)
        for kind in ("performer", "transformer")
        for depth in _SIZES
        if kind == "performer" or depth > 12
    ),
)
