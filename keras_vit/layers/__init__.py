"""The layers that vision transformers are made of."""

from keras_vit.layers.activations import GELU, gelu_tanh
from keras_vit.layers.attention import MultiHeadAttention, MultiHeadSelfAttention
from keras_vit.layers.attention_bias import AttentionBias
from keras_vit.layers.attention_pooling import AttentionPooling
from keras_vit.layers.cascaded_attention import CascadedGroupAttention
from keras_vit.layers.channel_shuffle import ChannelShuffle
from keras_vit.layers.class_token import ClassToken
from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_branch import BasicConv, ConvMLP, DepthwiseConv, DepthwiseSeparableConv, FusedMBConv, MBConv
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.diagonal_mask import DiagonalMask
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.dynamic_relu import DynamicReLU
from keras_vit.layers.efficientvit_block import EfficientViTBlock
from keras_vit.layers.former import Former
from keras_vit.layers.former_to_mobile import FormerToMobile
from keras_vit.layers.group_norm import GroupNorm
from keras_vit.layers.hard_sigmoid import HardSigmoid
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.learned_tokens import LearnedTokens
from keras_vit.layers.linear_attention import LinearAttention
from keras_vit.layers.matmul import FloatMatMul, MatMul
from keras_vit.layers.mlp import MLP
from keras_vit.layers.mobile_bottleneck import DownsamplingBottleneck, LiteBottleneck, MobileBottleneck
from keras_vit.layers.mobile_former_block import MobileFormerBlock
from keras_vit.layers.mobile_to_former import MobileToFormer
from keras_vit.layers.mobilevit_block import MobileViTBlock
from keras_vit.layers.mobilevit_v2_block import MobileViTV2Block
from keras_vit.layers.multi_scale_attention import MultiScaleAttention
from keras_vit.layers.patch_embedding import PatchEmbedding
from keras_vit.layers.pooling import TokenPooling
from keras_vit.layers.position_embedding import PositionEmbedding, resize_positions, sincos_positions
from keras_vit.layers.register_tokens import RegisterTokens
from keras_vit.layers.resize import Resize, ResizeToEven
from keras_vit.layers.sandwich import PatchMerging, SandwichBlock, SandwichDownsample
from keras_vit.layers.scale import Affine, HeadScale, LayerScale, Scale, Shift
from keras_vit.layers.separable_attention import SeparableSelfAttention, WeightedSum
from keras_vit.layers.separable_transformer_block import SeparableTransformerBlock
from keras_vit.layers.shifted_patch_embedding import ShiftedPatchEmbedding
from keras_vit.layers.softmax import RowSoftmax
from keras_vit.layers.squeeze_excite import SqueezeExcite
from keras_vit.layers.transformer_block import TransformerBlock
from keras_vit.layers.unfold import Fold, Unfold

__all__ = [
    "GELU",
    "MLP",
    "Affine",
    "AttentionBias",
    "AttentionPooling",
    "BasicConv",
    "CascadedGroupAttention",
    "ChannelShuffle",
    "ClassToken",
    "Composite",
    "ConvMLP",
    "ConvNorm",
    "DepthwiseConv",
    "DepthwiseSeparableConv",
    "DiagonalMask",
    "DownsamplingBottleneck",
    "DropPath",
    "DynamicReLU",
    "EfficientViTBlock",
    "FloatMatMul",
    "Fold",
    "Former",
    "FormerToMobile",
    "FusedMBConv",
    "GroupNorm",
    "HardSigmoid",
    "HeadScale",
    "LayerNorm",
    "LayerScale",
    "LearnedTokens",
    "LinearAttention",
    "LiteBottleneck",
    "MBConv",
    "MatMul",
    "MobileBottleneck",
    "MobileFormerBlock",
    "MobileToFormer",
    "MobileViTBlock",
    "MobileViTV2Block",
    "MultiHeadAttention",
    "MultiHeadSelfAttention",
    "MultiScaleAttention",
    "PatchEmbedding",
    "PatchMerging",
    "PositionEmbedding",
    "RegisterTokens",
    "Resize",
    "ResizeToEven",
    "RowSoftmax",
    "SandwichBlock",
    "SandwichDownsample",
    "Scale",
    "SeparableSelfAttention",
    "SeparableTransformerBlock",
    "Shift",
    "ShiftedPatchEmbedding",
    "SqueezeExcite",
    "TokenPooling",
    "TransformerBlock",
    "Unfold",
    "WeightedSum",
    "gelu_tanh",
    "resize_positions",
    "sincos_positions",
]
