"""Small forms of MViTv2, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.mvitv2.mvitv2_block import MViTv2Block
from keras_vit.models.mvitv2.pooling import EdgePadding, HalvingMaxPooling, HeadwiseConv
from keras_vit.models.mvitv2.pooling_attention import PooledHeads, PoolingAttention
from keras_vit.models.mvitv2.relative_scores import AxisScores, RelativeAxisScores
from tests.models.cases import IMAGES, Reference

# The maps are 8 x 6 and 4 x 3.
TINY = dict(input_shape=(32, 24, 3), channels=8, depths=(1, 1))
FORMS = {
    "channels double in attention": ("MViTv2", TINY),
    # The maps are 9 x 7 and 5 x 4.
    "channels double in MLPs": (
        "MViTv2",
        {**TINY, "input_shape": (33, 28, 3), "num_heads": 2, "expand_in_attention": False},
    ),
}
REFERENCES = (
    Reference("mvitv2_t", "mvitv2_tiny"),
    Reference("mvitv2_s", "mvitv2_small", slow=True),
    Reference("mvitv2_b", "mvitv2_base", slow=True),
)
_VECTORS = np.random.default_rng(1).normal(size=(2, 4, 5, 3)).astype("float32")
_ATTENTION = {"num_heads": 2, "size": (8, 12), "query_strides": 2, "key_strides": 4}
LAYERS = [
    (HeadwiseConv, {"num_heads": 3, "strides": 2}, IMAGES),
    (EdgePadding, {}, IMAGES[:, 1:]),
    (HalvingMaxPooling, {}, IMAGES[:, 1:]),
    (PooledHeads, {"num_heads": 3, "strides": 4}, IMAGES),
    (RelativeAxisScores, {"queries": 4, "keys": 2}, _VECTORS),
    (AxisScores, {"queries": 4, "keys": 2}, _VECTORS),
    (PoolingAttention, {"channels": 6, **_ATTENTION}, IMAGES),
    (
        MViTv2Block,
        {"input_channels": 3, "attention_channels": 6, "channels": 8, "drop_path_rate": 0.1, **_ATTENTION},
        IMAGES,
    ),
]
