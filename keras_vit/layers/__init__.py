"""Layers of vision transformers that several families of models share."""

from keras_vit.layers.activations import GELU, AttentionSoftmax, gelu_tanh
from keras_vit.layers.attention import MultiHeadAttention, MultiHeadSelfAttention
from keras_vit.layers.class_token import ClassToken
from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_branch import BasicConv, ConvMLP, DepthwiseConv, DepthwiseSeparableConv, FusedMBConv, MBConv
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.diagonal_mask import DiagonalMask
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.group_norm import GroupNorm
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.learned_tokens import LearnedTokens
from keras_vit.layers.matmul import FloatMatMul, MatMul
from keras_vit.layers.mlp import MLP
from keras_vit.layers.patch_embedding import PatchEmbedding
from keras_vit.layers.pooling import TokenPooling
from keras_vit.layers.position_embedding import PositionEmbedding, resize_positions, sincos_positions
from keras_vit.layers.preprocessing import Preprocessing
from keras_vit.layers.register_tokens import RegisterTokens
from keras_vit.layers.resize import Resize, ResizeToEven
from keras_vit.layers.rms_norm import RMSNorm
from keras_vit.layers.scale import Affine, HeadScale, LayerScale, Scale, Shift
from keras_vit.layers.squeeze_excite import SqueezeExcite
from keras_vit.layers.transformer_block import TransformerBlock
from keras_vit.layers.unfold import Fold, Unfold

__all__ = [
    "GELU",
    "MLP",
    "Affine",
    "AttentionSoftmax",
    "BasicConv",
    "ClassToken",
    "Composite",
    "ConvMLP",
    "ConvNorm",
    "DepthwiseConv",
    "DepthwiseSeparableConv",
    "DiagonalMask",
    "DropPath",
    "FloatMatMul",
    "Fold",
    "FusedMBConv",
    "GroupNorm",
    "HeadScale",
    "LayerNorm",
    "LayerScale",
    "LearnedTokens",
    "MBConv",
    "MatMul",
    "MultiHeadAttention",
    "MultiHeadSelfAttention",
    "PatchEmbedding",
    "PositionEmbedding",
    "Preprocessing",
    "RMSNorm",
    "RegisterTokens",
    "Resize",
    "ResizeToEven",
    "Scale",
    "Shift",
    "SqueezeExcite",
    "TokenPooling",
    "TransformerBlock",
    "Unfold",
    "gelu_tanh",
    "resize_positions",
    "sincos_positions",
]
