"""Small forms of CPVT and Twins, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.cpvt.local_attention import LocalAttention, LocalBlock, WindowSoftmax
from keras_vit.models.cpvt.position_generator import PositionGenerator, TokenPositionGenerator
from tests.models.cases import IMAGES, TOKENS, Reference

TINY_CPVT = dict(input_shape=(16, 12, 3), patch_size=4, width=24, depth=2, num_heads=3)
# The maps are 8 x 6 and 4 x 3.
TINY_TWINS = dict(
    input_shape=(32, 24, 3), channels=(12, 16), depths=(2, 2), num_heads=(2, 4), mlp_ratios=(3, 2), reductions=(2, 1)
)
FORMS = {
    "CPVT": ("CPVT", TINY_CPVT),
    # The windows divide the first map only.
    "Twins-SVT": ("Twins", {**TINY_TWINS, "window": 2}),
}
REFERENCES = (
    Reference("cpvt_ti", "cpvt_tiny"),
    Reference("cpvt_ti_gap", "cpvt_tiny_gap"),
    Reference("cpvt_s", "cpvt_small", slow=True),
    Reference("twins_pcpvt_s", "twins_pcpvt_small", slow=True),
    Reference("twins_svt_s", "twins_svt_small"),
)
_SCORES = np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype("float32")
LAYERS = [
    (PositionGenerator, {}, IMAGES),
    (TokenPositionGenerator, {"grid": (2, 2)}, TOKENS),
    (WindowSoftmax, {"size": (2, 3), "window": 3}, _SCORES),
    (LocalAttention, {"width": 3, "num_heads": 3, "size": (8, 12), "window": 5}, IMAGES),
    (LocalBlock, {"width": 3, "num_heads": 3, "mlp_dim": 7, "size": (8, 12), "window": 4}, IMAGES),
]
