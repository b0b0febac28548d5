"""Small forms of T2T-ViT, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.t2t.sinusoid_positions import SinusoidPositions
from keras_vit.models.t2t.soft_split import SoftSplit
from keras_vit.models.t2t.tokens_to_token import SoftSplits, TokenPerformer, TokensToToken, TokenTransformer
from tests.models.cases import IMAGES, TOKENS, Reference

# 3 x 2 patches.
TINY = dict(input_shape=(48, 32, 3), width=16, depth=1, num_heads=2, token_width=8)
FORMS = {
    "performer": ("T2T", TINY),
    "transformer": ("T2T", {**TINY, "tokens_attention": "transformer"}),
}
REFERENCES = (
    Reference("t2t_7", "t2t_vit_7"),
    Reference("t2t_14", "t2t_vit_14", slow=True),
    Reference("t2t_t_14", "t2t_vit_t_14", slow=True),
)
_PIXELS = np.random.default_rng(1).normal(size=(2, 32, 16, 3)).astype("float32")
_TOKENS_TO_TOKEN = {"width": 6, "token_width": 4}
LAYERS = [
    (SoftSplit, {"kernel_size": 7, "strides": 4}, IMAGES),
    (SoftSplit, {"kernel_size": 3, "strides": 2}, IMAGES),
    (SinusoidPositions, {"grid": (2, 2)}, TOKENS),
    (TokenPerformer, {"width": 4, "input_width": 3, "dropout_rate": 0.1}, IMAGES),
    (TokenTransformer, {"width": 4, "input_width": 3, "dropout_rate": 0.1}, IMAGES),
    (SoftSplits, {**_TOKENS_TO_TOKEN, "channels": 3}, _PIXELS),
    (TokensToToken, {**_TOKENS_TO_TOKEN, "tokens_attention": "transformer"}, _PIXELS),
]
# These are fixed.
WITHOUT_EFFECT = (
    "position_embedding/",
    *(f"tokens_to_token/projection/attention{number}/attention/random_matrix" for number in (1, 2)),
)
