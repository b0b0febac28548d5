"""Small forms of MIT's EfficientViT, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.efficientvit.efficientvit_block import EfficientViTBlock
from keras_vit.models.efficientvit.linear_attention import LinearAttention
from tests.models.cases import IMAGES, Reference

# The third stage has 5 x 4 pixels, more than a head has channels, and the fourth 3 x 2: linear attention computes its
# products in both orders.
TINY = dict(
    input_shape=(72, 64, 3),
    channels=(4, 8, 8, 16, 16),
    depths=(1, 2, 1, 1, 1),
    head_dim=8,
    head_channels=(20, 12),
)
FORMS = {"series B": ("EfficientViT", {**TINY, "series": "B"}), "series L": ("EfficientViT", {**TINY, "series": "L"})}
_SLOW = ("b2", "b3", "l2", "l3")
REFERENCES = (
    *(Reference(f"efficientvit_{size}", f"efficientvit_{size}") for size in ("b0", "b1", "l1")),
    *(Reference(f"efficientvit_{size}", f"efficientvit_{size}", slow=True) for size in _SLOW),
)
LAYERS = [
    (LinearAttention, {"epsilon": 1e-3}, np.random.default_rng(1).normal(size=(2, 3, 6, 5)).astype("float32")),
    (EfficientViTBlock, {"channels": 3, "head_dim": 3, "drop_path_rate": 0.1}, IMAGES),
]
