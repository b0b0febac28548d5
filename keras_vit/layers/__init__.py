"""The layers that vision transformers are made of."""

from keras_vit.layers.activations import gelu_tanh
from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.attention_bias import AttentionBias
from keras_vit.layers.cascaded_attention import CascadedGroupAttention
from keras_vit.layers.class_token import ClassToken
from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_branch import (
    BasicConv,
    ConvMLP,
    DepthwiseConv,
    DepthwiseSeparableConv,
    FusedMBConv,
    MBConv,
)
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.efficientvit_block import EfficientViTBlock
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.linear_attention import LinearAttention
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.mlp import MLP
from keras_vit.layers.multi_scale_attention import MultiScaleAttention
from keras_vit.layers.patch_embedding import PatchEmbedding
from keras_vit.layers.pooling import TokenPooling
from keras_vit.layers.position_embedding import PositionEmbedding, resize_positions
from keras_vit.layers.sandwich import PatchMerging, SandwichBlock, SandwichDownsample
from keras_vit.layers.scale import LayerScale, Scale
from keras_vit.layers.squeeze_excite import SqueezeExcite
from keras_vit.layers.transformer_block import TransformerBlock

__all__ = [
    "MLP",
    "AttentionBias",
    "BasicConv",
    "CascadedGroupAttention",
    "ClassToken",
    "Composite",
    "ConvMLP",
    "ConvNorm",
    "DepthwiseConv",
    "DepthwiseSeparableConv",
    "DropPath",
    "EfficientViTBlock",
    "FusedMBConv",
    "LayerNorm",
    "LayerScale",
    "LinearAttention",
    "MBConv",
    "MatMul",
    "MultiHeadSelfAttention",
    "MultiScaleAttention",
    "PatchEmbedding",
    "PatchMerging",
    "PositionEmbedding",
    "SandwichBlock",
    "SandwichDownsample",
    "Scale",
    "SqueezeExcite",
    "TokenPooling",
    "TransformerBlock",
    "gelu_tanh",
    "resize_positions",
]
