"""The names that published files use for the arrays of MLP-Mixer.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the block's number.
"""

from keras_vit.weights.layouts import FLAX, PYTORCH
from keras_vit.weights.naming import Naming

TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "patch_embedding.projection": "stem.proj",
        "block_{i}.norm1": "blocks.{i}.norm1",
        "block_{i}.token_mixing.expand": "blocks.{i}.mlp_tokens.fc1",
        "block_{i}.token_mixing.contract": "blocks.{i}.mlp_tokens.fc2",
        "block_{i}.norm2": "blocks.{i}.norm2",
        "block_{i}.channel_mixing.expand": "blocks.{i}.mlp_channels.fc1",
        "block_{i}.channel_mixing.contract": "blocks.{i}.mlp_channels.fc2",
        "norm": "norm",
        "head": "head",
    },
)


# The authors' files, such as gs://mixer_models/imagenet21k/Mixer-B_16.npz.
GOOGLE = Naming(
    "Google",
    FLAX,
    {
        "patch_embedding.projection": "stem",
        "block_{i}.norm1": "MixerBlock_{i}/LayerNorm_0",
        "block_{i}.token_mixing.expand": "MixerBlock_{i}/token_mixing/Dense_0",
        "block_{i}.token_mixing.contract": "MixerBlock_{i}/token_mixing/Dense_1",
        "block_{i}.norm2": "MixerBlock_{i}/LayerNorm_1",
        "block_{i}.channel_mixing.expand": "MixerBlock_{i}/channel_mixing/Dense_0",
        "block_{i}.channel_mixing.contract": "MixerBlock_{i}/channel_mixing/Dense_1",
        "norm": "pre_head_layer_norm",
        "head": "head",
    },
)

NAMINGS = (TIMM, GOOGLE)
