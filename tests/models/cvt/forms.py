"""A small form of CvT, and reference outputs to compare the family with."""

from keras_vit.layers.activations import QuickGELU
from keras_vit.layers.conv_embedding import ConvTokenEmbedding
from keras_vit.models.cvt.conv_attention import ConvAttention, ConvTokenAttention, CvTBlock, CvTTokenBlock
from tests.models.cases import IMAGES, TOKENS, Reference

# The maps are 7 x 6, 4 x 3 and 2 x 2.
TINY = dict(input_shape=(30, 23, 3), channels=(8, 12, 16), depths=(1, 1, 2), num_heads=(1, 3, 2), mlp_ratio=2)
FORMS = {"CvT": ("CvT", TINY)}
REFERENCES = (Reference("cvt_13", "cvt_13"), Reference("cvt_21", "cvt_21", slow=True))
_BLOCK = {"num_heads": 3, "mlp_dim": 7, "drop_path_rate": 0.1}
LAYERS = [
    (QuickGELU, {}, IMAGES),
    (ConvTokenEmbedding, {"width": 5, "kernel_size": 3, "strides": 2, "padding": 1}, IMAGES),
    (ConvAttention, {"width": 3, "num_heads": 3}, IMAGES),
    (ConvTokenAttention, {"grid": (2, 2), "width": 12, "num_heads": 3, "key_strides": 1}, TOKENS),
    (CvTBlock, {"width": 3, **_BLOCK}, IMAGES),
    (CvTTokenBlock, {"grid": (2, 2), "width": 12, **_BLOCK}, TOKENS),
]
# The head takes the class token, which skips the convolutions, so nothing sees the other queries of the last block.
WITHOUT_EFFECT = ("stage_2_block_1/attention/query_conv",)
