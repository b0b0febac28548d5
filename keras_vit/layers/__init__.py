"""The layers that vision transformers are made of."""

from keras_vit.layers.activations import gelu_tanh
from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.channel_shuffle import ChannelShuffle
from keras_vit.layers.class_token import ClassToken
from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.dynamic_relu import DynamicReLU
from keras_vit.layers.former import Former
from keras_vit.layers.former_to_mobile import FormerToMobile
from keras_vit.layers.hard_sigmoid import HardSigmoid
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.learned_tokens import LearnedTokens
from keras_vit.layers.matmul import FloatMatMul, MatMul
from keras_vit.layers.mlp import MLP
from keras_vit.layers.mobile_bottleneck import DownsamplingBottleneck, LiteBottleneck, MobileBottleneck
from keras_vit.layers.mobile_former_block import MobileFormerBlock
from keras_vit.layers.mobile_to_former import MobileToFormer
from keras_vit.layers.patch_embedding import PatchEmbedding
from keras_vit.layers.pooling import TokenPooling
from keras_vit.layers.position_embedding import PositionEmbedding, resize_positions
from keras_vit.layers.scale import LayerScale, Scale, Shift
from keras_vit.layers.softmax import RowSoftmax
from keras_vit.layers.transformer_block import TransformerBlock

__all__ = [
    "MLP",
    "ChannelShuffle",
    "ClassToken",
    "Composite",
    "ConvNorm",
    "DownsamplingBottleneck",
    "DropPath",
    "DynamicReLU",
    "FloatMatMul",
    "Former",
    "FormerToMobile",
    "HardSigmoid",
    "LayerNorm",
    "LayerScale",
    "LearnedTokens",
    "LiteBottleneck",
    "MatMul",
    "MobileBottleneck",
    "MobileFormerBlock",
    "MobileToFormer",
    "MultiHeadSelfAttention",
    "PatchEmbedding",
    "PositionEmbedding",
    "RowSoftmax",
    "Scale",
    "Shift",
    "TokenPooling",
    "TransformerBlock",
    "gelu_tanh",
    "resize_positions",
]
