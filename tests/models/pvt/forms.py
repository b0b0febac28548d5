"""Small forms of PVT and PVT v2, and reference outputs to compare the family with."""

from keras_vit.layers.conv_embedding import ConvEmbedding
from keras_vit.layers.pooling import AdaptiveAveragePooling
from keras_vit.layers.spatial_reduction import SpatialReduction, SpatialReductionAttention, SpatialReductionBlock
from keras_vit.models.pvt.depthwise_mlp import DepthwiseMLP, PVTv2Block
from keras_vit.models.pvt.pvt_embedding import PVTEmbedding
from tests.models.cases import IMAGES, Reference

# The maps are 8 x 6 and 4 x 3.
TINY = dict(
    input_shape=(32, 24, 3), channels=(12, 16), depths=(2, 1), num_heads=(2, 4), mlp_ratios=(3, 2), reductions=(2, 1)
)
FORMS = {
    "PVT": ("PVT", TINY),
    "PVTv2": ("PVTv2", TINY),
}
REFERENCES = (
    Reference("pvt_t", "pvt_tiny"),
    Reference("pvt_s", "pvt_small", slow=True),
    Reference("pvtv2_b0", "pvt_v2_b0"),
    Reference("pvtv2_b2", "pvt_v2_b2", slow=True),
    Reference("pvtv2_b2_li", "pvt_v2_b2_li", slow=True),
    Reference("pvtv2_b5", "pvt_v2_b5", slow=True),
)
_BLOCK = {"width": 3, "num_heads": 3, "mlp_dim": 7, "reduction": 2, "drop_path_rate": 0.1}
LAYERS = [
    (AdaptiveAveragePooling, {"side": 5}, IMAGES),
    (ConvEmbedding, {"channels": 5, "kernel_size": 3, "strides": 2, "padding": 1}, IMAGES),
    (SpatialReduction, {"channels": 3, "reduction": 4}, IMAGES),
    (SpatialReductionAttention, {"width": 3, "num_heads": 3, "pooled_side": 2}, IMAGES),
    (SpatialReductionBlock, _BLOCK, IMAGES),
    (DepthwiseMLP, {"width": 3, "mlp_dim": 7, "relu": True}, IMAGES),
    (PVTv2Block, _BLOCK, IMAGES),
    (PVTEmbedding, {"channels": 5, "patch_size": 4, "size": (8, 12)}, IMAGES),
]
