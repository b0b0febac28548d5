"""The layers that vision transformers are made of."""

from keras_vit.layers.activations import gelu_tanh
from keras_vit.layers.attention import MultiHeadAttention, MultiHeadSelfAttention
from keras_vit.layers.attention_pooling import AttentionPooling, Probe
from keras_vit.layers.class_token import ClassToken
from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.mlp import MLP
from keras_vit.layers.patch_embedding import PatchEmbedding
from keras_vit.layers.pooling import TokenPooling
from keras_vit.layers.position_embedding import PositionEmbedding, resize_positions, sincos_positions
from keras_vit.layers.register_tokens import RegisterTokens
from keras_vit.layers.scale import LayerScale, Scale
from keras_vit.layers.transformer_block import TransformerBlock

__all__ = [
    "MLP",
    "AttentionPooling",
    "ClassToken",
    "Composite",
    "ConvNorm",
    "DropPath",
    "LayerNorm",
    "LayerScale",
    "MatMul",
    "MultiHeadAttention",
    "MultiHeadSelfAttention",
    "PatchEmbedding",
    "PositionEmbedding",
    "Probe",
    "RegisterTokens",
    "Scale",
    "TokenPooling",
    "TransformerBlock",
    "gelu_tanh",
    "resize_positions",
    "sincos_positions",
]
