"""Small forms of CoAtNet, and reference outputs to compare the family with."""

from dataclasses import asdict

import numpy as np

from keras_vit.layers.window_bias import RelativePositionBias
from keras_vit.layers.windows import Windows
from keras_vit.models.coatnet.coatnet_block import PreNormMBConv, RelativeTransformerBlock, Shortcut
from keras_vit.models.coatnet.relative_attention import RelativeSelfAttention
from tests.models.cases import IMAGES, Reference

# Attention on maps of 6 x 4 and 3 x 2 pixels.
TINY = dict(
    input_shape=(96, 64, 3),
    stem_channels=8,
    channels=(8, 12, 16, 24),
    depths=(2, 1, 2, 1),
    head_dim=8,
    expansion=2,
    mlp_ratio=2,
    representation_size=20,
)
FORMS = {"CoAtNet": ("CoAtNet", TINY)}
REFERENCES = (Reference("coatnet_0", "coatnet_0_224"), Reference("coatnet_2", "coatnet_2_224", slow=True))
MAP = Windows.of((2, 3), 3, shifted=False)
_SCORES = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype("float32")
_PIXELS = np.random.default_rng(2).normal(size=(2, 6, 5)).astype("float32")
LAYERS = [
    (
        RelativePositionBias,
        {"num_heads": 3, "windows": asdict(MAP), "interpolation": "half_pixel_linear"},
        _SCORES,
    ),
    (RelativeSelfAttention, {"width": 12, "num_heads": 3, "size": (2, 3)}, _PIXELS),
    (Shortcut, {"channels": 5, "input_channels": 3, "strides": 2}, IMAGES),
    (PreNormMBConv, {"channels": 8, "input_channels": 3, "strides": 2, "drop_path_rate": 0.2}, IMAGES),
    (
        RelativeTransformerBlock,
        {"size": (8, 12), "channels": 12, "input_channels": 3, "num_heads": 3, "mlp_dim": 20, "strides": 2},
        IMAGES,
    ),
]
