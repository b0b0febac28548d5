"""The names that published files use for the arrays of ConvNeXt.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the stage's number
and {j} the block's.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part

_BLOCK = "stage_{i}_block_{j}"

TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "stem.conv": "stem.0",
        "stem.norm": "stem.1",
        "stage_{i}_downsample.norm": "stages.{i}.downsample.0",
        "stage_{i}_downsample.conv": "stages.{i}.downsample.1",
        f"{_BLOCK}.depthwise": "stages.{i}.blocks.{j}.conv_dw",
        f"{_BLOCK}.norm": "stages.{i}.blocks.{j}.norm",
        f"{_BLOCK}.mlp.expand": "stages.{i}.blocks.{j}.mlp.fc1",
        f"{_BLOCK}.mlp.contract": "stages.{i}.blocks.{j}.mlp.fc2",
        f"{_BLOCK}.layer_scale": Part("stages.{i}.blocks.{j}.gamma", is_array=True),
        "norm": "head.norm",
        "head": "head.fc",
    },
    unused_without_head=("head.norm.",),
)

# In facebookresearch/ConvNeXt.
AUTHORS = Naming(
    "ConvNeXt's authors",
    PYTORCH,
    {
        "stem.conv": "downsample_layers.0.0",
        "stem.norm": "downsample_layers.0.1",
        "stage_{i}_downsample.norm": "downsample_layers.{i}.0",
        "stage_{i}_downsample.conv": "downsample_layers.{i}.1",
        f"{_BLOCK}.depthwise": "stages.{i}.{j}.dwconv",
        f"{_BLOCK}.norm": "stages.{i}.{j}.norm",
        f"{_BLOCK}.mlp.expand": "stages.{i}.{j}.pwconv1",
        f"{_BLOCK}.mlp.contract": "stages.{i}.{j}.pwconv2",
        f"{_BLOCK}.layer_scale": Part("stages.{i}.{j}.gamma", is_array=True),
        "norm": "norm",
        "head": "head",
    },
    unused_without_head=("norm.",),
)

_STAGE = "convnext.encoder.stages.{i}"

HUGGING_FACE = Naming(
    "Hugging Face",
    PYTORCH,
    {
        "stem.conv": "convnext.embeddings.patch_embeddings",
        "stem.norm": "convnext.embeddings.layernorm",
        "stage_{i}_downsample.norm": f"{_STAGE}.downsampling_layer.0",
        "stage_{i}_downsample.conv": f"{_STAGE}.downsampling_layer.1",
        f"{_BLOCK}.depthwise": f"{_STAGE}.layers.{{j}}.dwconv",
        f"{_BLOCK}.norm": f"{_STAGE}.layers.{{j}}.layernorm",
        f"{_BLOCK}.mlp.expand": f"{_STAGE}.layers.{{j}}.pwconv1",
        f"{_BLOCK}.mlp.contract": f"{_STAGE}.layers.{{j}}.pwconv2",
        f"{_BLOCK}.layer_scale": Part(f"{_STAGE}.layers.{{j}}.layer_scale_parameter", is_array=True),
        "norm": "convnext.layernorm",
        "head": "classifier",
    },
    unused_without_head=("convnext.layernorm.",),
)

NAMINGS = (TIMM, AUTHORS, HUGGING_FACE)
