"""Small forms of CaiT, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.cait.class_attention import ClassAttentionBlock
from keras_vit.models.cait.talking_heads import HeadMixing, TalkingHeadsAttention, TalkingHeadsBlock
from tests.models.cases import TOKENS, Reference

TINY = dict(input_shape=(16, 12, 3), patch_size=4, width=24, depth=2, num_heads=3, layer_scale=0.5)
FORMS = {"CaiT": ("CaiT", TINY)}
REFERENCES = (Reference("cait_xxs24", "cait_xxs24_224"), Reference("cait_s24", "cait_s24_384", slow=True))
_BLOCK = {"width": 12, "num_heads": 3, "mlp_dim": 20, "layer_scale": 0.5, "drop_path_rate": 0.2}
LAYERS = [
    (HeadMixing, {}, np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype("float32")),
    (TalkingHeadsAttention, {"width": 12, "num_heads": 3}, TOKENS),
    (TalkingHeadsBlock, _BLOCK, TOKENS),
    (ClassAttentionBlock, _BLOCK, TOKENS),
]
