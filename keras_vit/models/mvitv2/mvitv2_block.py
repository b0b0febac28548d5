"""The blocks of MViTv2 (Li et al., arXiv 2112.01526, section 3 and figure 2)."""

from typing import Any

import keras

from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.models.mvitv2.pooling import HalvingMaxPooling
from keras_vit.models.mvitv2.pooling_attention import EPSILON, PoolingAttention


@keras.saving.register_keras_serializable("keras_vit")
class MViTv2Block(Composite):
    """Add pooling attention, then an MLP. Either of them can change the channels, and the attention can halve the map.

    Where the channels change, the residual connection projects the normalized map, as in the authors' code. Where the
    attention halves the map, it takes the maximum of each 3 x 3 pixels.

    Args:
        input_channels: Channels of the input.
        attention_channels: Channels of the attention's output.
        channels: Channels of the output.
        num_heads: Number of attention heads.
        size: (height, width) of the input.
        query_strides: Strides with which the queries are pooled, 1 or 2.
        key_strides: Strides with which the keys and values are pooled.
        mlp_ratio: Ratio of the units between the two dense layers of the MLP to `attention_channels`.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input: (batch, height, width, input_channels).
    Output: (batch, ceil(height / query_strides), ceil(width / query_strides), channels).
    """

    def __init__(
        self,
        input_channels: int,
        attention_channels: int,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        query_strides: int = 1,
        key_strides: int = 1,
        mlp_ratio: float = 4,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "input_channels": input_channels,
            "attention_channels": attention_channels,
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "query_strides": query_strides,
            "key_strides": key_strides,
            "mlp_ratio": mlp_ratio,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(EPSILON, dtype=dtype, name="norm1")
        self.attention = PoolingAttention(
            attention_channels,
            num_heads,
            size,
            query_strides,
            key_strides,
            dropout_rate,
            attention_dropout_rate,
            dtype=dtype,
            name="attention",
        )
        if attention_channels != input_channels:
            self.shortcut1 = keras.layers.Dense(attention_channels, dtype=dtype, name="shortcut1")
        if query_strides > 1:
            self.shortcut_pool = HalvingMaxPooling(dtype=dtype, name="shortcut_pool")
        self.norm2 = LayerNorm(EPSILON, dtype=dtype, name="norm2")
        mlp_dim = int(attention_channels * mlp_ratio)
        self.mlp = MLP(channels, mlp_dim, dropout_rate=dropout_rate, dtype=dtype, name="mlp")
        if channels != attention_channels:
            self.shortcut2 = keras.layers.Dense(channels, dtype=dtype, name="shortcut2")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def build(self, input_shape):
        pooled = self.attention.compute_output_shape(input_shape)
        for name in ("norm1", "attention", "shortcut1"):
            if hasattr(self, name):
                getattr(self, name).build(input_shape)
        if hasattr(self, "shortcut_pool"):
            self.shortcut_pool.build((*input_shape[:3], pooled[3]))
        for name in ("norm2", "mlp", "shortcut2", "drop_path1"):
            if hasattr(self, name):
                getattr(self, name).build(pooled)
        self.drop_path2.build((*pooled[:3], self.settings["channels"]))

    def call(self, inputs):
        normed = self.norm1(inputs)
        shortcut = self.shortcut1(normed) if hasattr(self, "shortcut1") else inputs
        shortcut = self.shortcut_pool(shortcut) if hasattr(self, "shortcut_pool") else shortcut
        x = self.add1([shortcut, self.drop_path1(self.attention(normed))])
        normed = self.norm2(x)
        shortcut = self.shortcut2(normed) if hasattr(self, "shortcut2") else x
        return self.add2([shortcut, self.drop_path2(self.mlp(normed))])

    def compute_output_shape(self, input_shape):
        return (*self.attention.compute_output_shape(input_shape)[:3], self.settings["channels"])

    def get_config(self):
        return {**super().get_config(), **self.settings}
