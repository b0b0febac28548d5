"""Small forms of XCiT, and reference outputs to compare the family with."""

import numpy as np

from keras_vit.models.xcit.conv_patch_embedding import ConvPatchEmbedding
from keras_vit.models.xcit.cross_covariance import ChannelSoftmax, CrossCovarianceAttention, UnitLength
from keras_vit.models.xcit.fourier_positions import FourierPositions
from keras_vit.models.xcit.xcit_block import LocalPatchInteraction, XCABlock, XCiTClassBlock
from tests.models.cases import IMAGES, TOKENS, Reference

# 4 x 3 patches, fewer than a head has channels.
TINY = dict(input_shape=(16, 12, 3), patch_size=4, width=32, depth=2, num_heads=2)
FORMS = {
    "all tokens normalized": ("XCiT", TINY),
    "class token normalized": ("XCiT", {**TINY, "depth": 1, "norm_all_tokens": False}),
}
REFERENCES = (
    Reference("xcit_nano12_p16", "xcit_nano_12_p16_224"),
    Reference("xcit_tiny24_p8", "xcit_tiny_24_p8_224", slow=True),
    Reference("xcit_small12_p16", "xcit_small_12_p16_384", slow=True),
)
_PATCHES = np.random.default_rng(1).normal(size=(2, 6, 12)).astype("float32")
_BLOCK = {"width": 12, "num_heads": 3, "mlp_dim": 20}
LAYERS = [
    (ConvPatchEmbedding, {"width": 6, "patch_size": 4}, IMAGES),
    (FourierPositions, {"grid": (2, 3)}, _PATCHES),
    (UnitLength, {"num_heads": 3}, TOKENS),
    (ChannelSoftmax, {}, TOKENS),
    (CrossCovarianceAttention, {"width": 12, "num_heads": 3}, TOKENS),
    (LocalPatchInteraction, {"grid": (2, 3), "layer_scale": 0.5}, _PATCHES),
    (XCABlock, {**_BLOCK, "grid": (3, 2), "drop_path_rate": 0.2}, _PATCHES),
    (XCiTClassBlock, {**_BLOCK, "norm_all_tokens": False}, TOKENS),
]
