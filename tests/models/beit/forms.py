"""Small forms of BEiT, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.beit.token_bias import BEiTBlock, BiasedSelfAttention, TokenBias
from tests.models.cases import Reference

TINY = dict(input_shape=(16, 12, 3), patch_size=4, width=24, depth=2, num_heads=3, layer_scale=0.5)
FORMS = {"BEiT": ("BEiT", TINY), "class token": ("BEiT", {**TINY, "pooling": "token"})}
REFERENCES = (
    Reference("beit_b16", "beit_base_patch16_224"),
    Reference("beit_b16", "beitv2_base_patch16_224", slow=True),
)
_TOKENS = np.random.default_rng(0).normal(size=(2, 7, 12)).astype("float32")
_SCORES = np.random.default_rng(1).normal(size=(2, 3, 7, 7)).astype("float32")
_BLOCK = {"width": 12, "num_heads": 3, "mlp_dim": 20, "grid": (2, 3), "layer_scale": 0.5, "drop_path_rate": 0.2}
LAYERS = [
    (TokenBias, {"num_heads": 3, "grid": (2, 3)}, _SCORES),
    (BiasedSelfAttention, {"width": 12, "num_heads": 3, "grid": (2, 3)}, _TOKENS),
    (BEiTBlock, _BLOCK, _TOKENS),
]
