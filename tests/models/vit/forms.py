"""Small forms of ViT, DeiT, DeiT III and DINOv2, and reference outputs to compare the family with."""

import keras
import numpy as np

from keras_vit.models.vit.attention_pooling import AttentionPooling
from keras_vit.models.vit.swiglu import SwiGLU, SwiGLUBlock
from tests.models.cases import TOKENS, Reference, build

TINY = dict(input_shape=(16, 16, 3), patch_size=4, width=24, depth=2, num_heads=3, classes=5)
_SETTINGS = {
    "class token": ("ViT", {}),
    "average": ("ViT", dict(class_token=False, pooling="avg", norm_after_pooling=True)),
    "attention pooling": ("ViT", dict(class_token=False, pooling="map", activation="gelu_tanh")),
    "registers": ("ViT", dict(num_registers=2, position_on_class_token=False, layer_scale=0.1)),
    "registers, all positions": ("ViT", dict(num_registers=2, pooling="avg")),
    "fixed positions": (
        "ViT",
        dict(class_token=False, pooling="avg", position_embedding="sincos2d", representation_size=16),
    ),
    "MAE's positions": ("ViT", dict(position_embedding="sincos2d_mae", pooling="avg", norm_after_pooling=True)),
    "for small data": ("ViT", dict(shifted_patches=True, locality=True)),
    "DeiT": ("DeiT", {}),
    "distilled DeiT": ("DeiT", dict(distilled=True)),
    "DeiT III": ("DeiT3", {}),
    "DINOv2": ("DINOv2", dict(layer_scale=0.5)),
    "DINOv2 with registers": (
        "DINOv2",
        dict(layer_scale=0.5, mlp_dim=32, swiglu=True, num_registers=2, pooling="token_and_avg"),
    ),
}
FORMS = {name: (builder, {**TINY, **settings}) for name, (builder, settings) in _SETTINGS.items()}
REFERENCES = (
    Reference("vit_ti16", "vit_tiny_patch16_224"),
    Reference("vit_s16", "vit_small_patch16_224"),
    Reference("vit_s32", "vit_small_patch32_224"),
    Reference("vit_b32", "vit_base_patch32_224"),
    Reference("vit_b16", "vit_base_patch16_224"),
    Reference("vit_b8", "vit_base_patch8_224", slow=True),
    Reference("vit_b16", "vit_base_patch16_384", slow=True),
    # timm gives this one 16 heads.
    Reference("vit_b16", "vit_base_patch16_gap_224", {"class_token": False, "pooling": "avg", "num_heads": 16}),
    Reference("vit_b16", "vit_base_patch16_siglip_224", {"class_token": False, "pooling": "map", "include_top": False}),
    Reference("vit_l16", "vit_large_patch16_224", slow=True),
    Reference("vit_h14", "vit_huge_patch14_224", {"include_top": False, "pooling": "token"}, slow=True),
    Reference("deit_ti16", "deit_tiny_patch16_224"),
    Reference("deit_ti16_distilled", "deit_tiny_distilled_patch16_224"),
    Reference("deit_s16", "deit_small_patch16_224"),
    Reference("deit_b16_distilled", "deit_base_distilled_patch16_384", slow=True),
    Reference("deit3_s16", "deit3_small_patch16_224"),
    Reference("deit3_b16", "deit3_base_patch16_384", slow=True),
    Reference("deit3_l16", "deit3_large_patch16_224", slow=True),
)
LAYERS = [
    (AttentionPooling, {"width": 12, "num_heads": 3, "mlp_dim": 20, "activation": "gelu_tanh"}, TOKENS),
    (SwiGLU, {"width": 12, "mlp_dim": 20}, TOKENS),
    (SwiGLUBlock, {"width": 12, "num_heads": 3, "mlp_dim": 20, "layer_scale": 0.5}, TOKENS),
]


def images(count: int = 4) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 16, 16, 3)).astype("float32")


def form(which: str, /, **settings) -> keras.Model:
    """Build one of these forms, with a softmax and random weights."""
    return build(f"vit: {which}", **{"classifier_activation": "softmax", **settings})
