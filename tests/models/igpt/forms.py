"""Small forms of iGPT. Its reference outputs have other inputs than images, see test_igpt.py."""

import numpy as np

from keras_vit.models.igpt.causal_attention import CausalBlock, CausalMask, CausalSelfAttention
from keras_vit.models.igpt.colors import NearestColor
from tests.models.cases import IMAGES, TOKENS

TINY = dict(input_shape=(6, 5, 3), num_colors=12, width=24, depth=2, num_heads=3)
FORMS = {
    "classifier": ("iGPT", TINY),
    "colors": ("iGPT", {**TINY, "include_top": False, "predict_colors": True}),
}
REFERENCES = ()
# The colors are not trained.
WITHOUT_EFFECT = ("colors/",)
# The nearest color needs the precision of floats.
IN_FLOAT = ("colors",)
_SCORES = np.random.default_rng(1).normal(size=(2, 3, 7, 7)).astype("float32")
LAYERS = [
    (NearestColor, {"num_colors": 7}, IMAGES),
    (CausalMask, {}, _SCORES),
    (CausalSelfAttention, {"width": 12, "num_heads": 3}, TOKENS),
    (CausalBlock, {"width": 12, "num_heads": 3, "mlp_dim": 20, "drop_path_rate": 0.2}, TOKENS),
]
