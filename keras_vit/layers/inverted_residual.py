"""The inverted residual block (Sandler et al., MobileNetV2, arXiv 1801.04381, section 3.3)."""

import keras

from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath


@keras.saving.register_keras_serializable("keras_vit")
class InvertedResidual(Composite):
    """1 x 1 to more channels, depthwise 3 x 3, 1 x 1 to few channels without activation; each with batch norm.

    Where the output has the input's shape, the input is added.

    Args:
        input_channels: Channels of the input.
        filters: Output channels.
        expansion: How many times the input's channels the depthwise convolution has.
        strides: Of the depthwise convolution.
        activation: Of the first two convolutions.
        drop_path_rate: Stochastic depth of the branch, where there is something to add it to.

    Input: (batch, height, width, input_channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), filters).
    """

    def __init__(
        self,
        input_channels: int,
        filters: int,
        expansion: int = 4,
        strides: int = 1,
        activation: str = "silu",
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "input_channels": input_channels,
            "filters": filters,
            "expansion": expansion,
            "strides": strides,
            "activation": activation,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        hidden = input_channels * expansion
        self.expand = ConvNorm(hidden, activation=activation, dtype=dtype, name="expand")
        self.depthwise = ConvNorm(
            hidden,
            kernel_size=3,
            strides=strides,
            depthwise=True,
            input_channels=hidden,
            activation=activation,
            dtype=dtype,
            name="depthwise",
        )
        self.contract = ConvNorm(filters, dtype=dtype, name="contract")
        self.is_residual = strides == 1 and input_channels == filters
        if self.is_residual:
            self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
            self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, input_shape):
        for part in (self.expand, self.depthwise, self.contract):
            part.build(input_shape)
            input_shape = part.compute_output_shape(input_shape)

    def call(self, inputs):
        branch = self.contract(self.depthwise(self.expand(inputs)))
        return self.add([inputs, self.drop_path(branch)]) if self.is_residual else branch

    def compute_output_shape(self, input_shape):
        for part in (self.expand, self.depthwise, self.contract):
            input_shape = part.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.settings}
