"""A small form of Microsoft Research's EfficientViT, and a reference output to compare the family with.

The other reference outputs are in test_efficientvit_msra.py: the weights of some are ill-conditioned in float32.
"""

import numpy as np

from keras_vit.models.efficientvit_msra.attention_bias import AttentionBias
from keras_vit.models.efficientvit_msra.sandwich import SandwichBlock, SandwichDownsample
from tests.models.cases import IMAGES, Reference

# The maps are 10 x 8 (padded windows), 5 x 4 and 3 x 2 (one window each).
TINY = dict(
    input_shape=(160, 128, 3), channels=(16, 16, 24), depths=(1, 2, 1), num_heads=(2, 2, 3), kernel_sizes=(5, 3, 3)
)
FORMS = {"three stages": ("EfficientViT_MSRA", TINY)}
REFERENCES = (Reference("efficientvit_m2", "efficientvit_m2", tolerance=1e-3),)
LAYERS = [
    (AttentionBias, {"window": (1, 5)}, np.random.default_rng(1).normal(size=(2, 5, 5)).astype("float32")),
    (SandwichBlock, {"channels": 3, "num_heads": 3, "size": (8, 12), "window": 5, "key_dim": 4}, IMAGES),
    (SandwichDownsample, {"channels": 5, "input_channels": 3}, IMAGES),
]
# With random weights, a number that is rounded the other way changes a softmax, and each stage adds to the difference.
INT8_SNR_DB = 8
