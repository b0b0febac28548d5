"""The blocks of NAT and the layers between its stages (Hassani et al., arXiv 2204.07143, section 3.3 and figure 5)."""

from typing import Any

import keras

from keras_vit.layers.composite import Composite, SequentialComposite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.scale import LayerScale
from keras_vit.models.nat.neighborhood_attention import NeighborhoodAttention

EPSILON = 1e-5  # Of every LayerNorm.


@keras.saving.register_keras_serializable("keras_vit")
class NATBlock(Composite):
    """Compute x + attention(norm(x)), then x + mlp(norm(x)), with attention to the neighborhood of each pixel.

    Args:
        channels: Channels of the map.
        num_heads: Number of attention heads.
        size: (height, width) of the map.
        kernel_size: Side of a neighborhood.
        dilation: Rows and columns between the pixels of a neighborhood.
        mlp_ratio: Ratio of the units between the two dense layers of the MLP to the channels.
        layer_scale: Initial value of a `LayerScale` on each branch, or None for no `LayerScale`.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        kernel_size: int = 7,
        dilation: int = 1,
        mlp_ratio: float = 3,
        layer_scale: float | None = None,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "kernel_size": kernel_size,
            "dilation": dilation,
            "mlp_ratio": mlp_ratio,
            "layer_scale": layer_scale,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(EPSILON, dtype=dtype, name="norm1")
        self.attention = NeighborhoodAttention(
            channels,
            num_heads,
            size,
            kernel_size,
            dilation,
            dropout_rate,
            attention_dropout_rate,
            dtype=dtype,
            name="attention",
        )
        self.norm2 = LayerNorm(EPSILON, dtype=dtype, name="norm2")
        self.mlp = MLP(channels, int(mlp_ratio * channels), dropout_rate=dropout_rate, dtype=dtype, name="mlp")
        if layer_scale is not None:
            self.layer_scale1 = LayerScale(layer_scale, dtype=dtype, name="layer_scale1")
            self.layer_scale2 = LayerScale(layer_scale, dtype=dtype, name="layer_scale2")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def build(self, input_shape):
        for part in self.parts().values():
            if not isinstance(part, keras.layers.Add):
                part.build(input_shape)

    def call(self, inputs):
        branch = self.attention(self.norm1(inputs))
        if self.settings["layer_scale"] is not None:
            branch = self.layer_scale1(branch)
        x = self.add1([inputs, self.drop_path1(branch)])
        branch = self.mlp(self.norm2(x))
        if self.settings["layer_scale"] is not None:
            branch = self.layer_scale2(branch)
        return self.add2([x, self.drop_path2(branch)])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class ConvTokenizer(SequentialComposite):
    """Apply two 3 x 3 convolutions with strides of 2 and a normalization to images.

    Args:
        channels: Channels of the map. The first convolution gives half as many.

    Input: (batch, height, width, image channels).
    Output: (batch, ceil(height / 4), ceil(width / 4), channels).
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        dtype = self.dtype_policy
        shared = {"strides": 2, "use_bias": True, "norm": False, "dtype": dtype}
        self.set_sequence(
            {
                "conv_0": ConvNorm(channels // 2, 3, name="conv_0", **shared),
                "conv_1": ConvNorm(channels, 3, name="conv_1", **shared),
                "norm": LayerNorm(EPSILON, dtype=dtype, name="norm"),
            }
        )

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_vit")
class ConvDownsampler(SequentialComposite):
    """Halve a map by a 3 x 3 convolution, then normalize it.

    Args:
        channels: Channels of the output.

    Input: (batch, height, width, input channels). Output: (batch, ceil(height / 2), ceil(width / 2), channels).
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        dtype = self.dtype_policy
        self.set_sequence(
            {
                "reduction": ConvNorm(channels, 3, strides=2, norm=False, dtype=dtype, name="reduction"),
                "norm": LayerNorm(EPSILON, dtype=dtype, name="norm"),
            }
        )

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
