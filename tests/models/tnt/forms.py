"""A small form of TNT, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.tnt.pixel_embedding import PixelConvolution, PixelEmbedding
from keras_vit.models.tnt.tnt_block import PixelAttention, PixelBlock
from tests.models.cases import IMAGES, Reference

# 3 x 2 patches of 3 x 3 pixels.
TINY = dict(
    input_shape=(24, 16, 3), patch_size=8, strides=3, width=24, pixel_width=6, depth=2, num_heads=3, pixel_heads=2
)
FORMS = {"TNT": ("TNT", TINY)}
REFERENCES = (Reference("tnt_s", "tnt_s_patch16_224"), Reference("tnt_b", "tnt_b_patch16_224", slow=True))
PIXELS = np.random.default_rng(1).normal(size=(2, 3, 5, 6)).astype("float32")
LAYERS = [
    (PixelConvolution, {"pixel_width": 5, "patch_size": 4, "strides": 2}, IMAGES),
    (PixelEmbedding, {"pixel_width": 5, "patch_size": 4, "strides": 3}, IMAGES),
    (PixelAttention, {"width": 6, "num_heads": 3, "qkv_bias": False}, PIXELS),
    (PixelBlock, {"width": 6, "num_heads": 2, "mlp_dim": 9, "drop_path_rate": 0.1}, PIXELS),
]
