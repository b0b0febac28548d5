"""The names that published files use for the arrays of ConvMixer.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the block's number.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming

TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "stem.conv": "stem.0",
        "stem.norm": "stem.2",
        "block_{i}.depthwise.conv": "blocks.{i}.0.fn.0",
        "block_{i}.depthwise.norm": "blocks.{i}.0.fn.2",
        "block_{i}.pointwise.conv": "blocks.{i}.1",
        "block_{i}.pointwise.norm": "blocks.{i}.3",
        "head": "head",
    },
)

NAMINGS = (TIMM,)
