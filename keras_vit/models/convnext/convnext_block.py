"""The parts of ConvNeXt (Liu et al., arXiv 2201.03545, figure 4)."""

import keras

from keras_vit.layers.composite import Composite, SequentialComposite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.scale import LayerScale

EPSILON = 1e-6  # Of every LayerNorm.


@keras.saving.register_keras_serializable("keras_vit")
class ConvNeXtStem(SequentialComposite):
    """Divide images into patches of 4 x 4 pixels by a convolution, and normalize them.

    Args:
        channels: Channels of the output.

    Input: (batch, height, width, image channels). Output: (batch, height // 4, width // 4, channels).
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        dtype = self.dtype_policy
        self.set_sequence(
            {
                "conv": keras.layers.Conv2D(channels, 4, strides=4, dtype=dtype, name="conv"),
                "norm": LayerNorm(EPSILON, dtype=dtype, name="norm"),
            }
        )

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_vit")
class ConvNeXtDownsample(SequentialComposite):
    """Normalize a map, and halve its resolution by a convolution of 2 x 2 pixels.

    Args:
        channels: Channels of the output.

    Input: (batch, height, width, input channels). Output: (batch, height // 2, width // 2, channels).
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        dtype = self.dtype_policy
        self.set_sequence(
            {
                "norm": LayerNorm(EPSILON, dtype=dtype, name="norm"),
                "conv": keras.layers.Conv2D(channels, 2, strides=2, dtype=dtype, name="conv"),
            }
        )

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_vit")
class ConvNeXtBlock(Composite):
    """Compute x + scale * mlp(norm(depthwise(x))), with stochastic depth and a learned scale for each channel.

    Args:
        channels: Channels of the map.
        mlp_ratio: Ratio of the units between the two dense layers of the MLP to the channels.
        kernel_size: Side of the depthwise convolution's kernel, odd.
        layer_scale: Initial value of the `LayerScale`, or None for no `LayerScale`.
        drop_path_rate: Rate of stochastic depth.
        dropout_rate: Dropout rate in the MLP.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        channels: int,
        mlp_ratio: float = 4,
        kernel_size: int = 7,
        layer_scale: float | None = 1e-6,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "mlp_ratio": mlp_ratio,
            "kernel_size": kernel_size,
            "layer_scale": layer_scale,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
        }
        dtype = self.dtype_policy
        self.depthwise = keras.layers.DepthwiseConv2D(kernel_size, padding="same", dtype=dtype, name="depthwise")
        self.norm = LayerNorm(EPSILON, dtype=dtype, name="norm")
        self.mlp = MLP(channels, round(mlp_ratio * channels), dropout_rate=dropout_rate, dtype=dtype, name="mlp")
        if layer_scale is not None:
            self.layer_scale = LayerScale(layer_scale, dtype=dtype, name="layer_scale")
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, input_shape):
        for part in self.parts().values():
            if part is not self.add:
                part.build(input_shape)

    def call(self, inputs):
        branch = self.mlp(self.norm(self.depthwise(inputs)))
        if self.settings["layer_scale"] is not None:
            branch = self.layer_scale(branch)
        return self.add([inputs, self.drop_path(branch)])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
