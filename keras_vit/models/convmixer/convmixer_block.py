"""The ConvMixer layer (Trockman and Kolter, arXiv 2201.09792, section 2)."""

import keras

from keras_vit.layers.activations import activation_layer
from keras_vit.layers.composite import Composite, SequentialComposite
from keras_vit.layers.drop_path import DropPath


@keras.saving.register_keras_serializable("keras_vit")
class ConvActivationNorm(SequentialComposite):
    """Apply a convolution, an activation and a batch normalization, in this order.

    Args:
        channels: Output channels; for a depthwise convolution those of the input.
        kernel_size: Side of the kernel.
        strides: Strides of the convolution. With strides of 1 the map is padded so that it keeps its size; with larger
            strides it is not padded.
        depthwise: Whether the convolution is depthwise.
        activation: Name of the activation, as in `MLP`.
        epsilon: Added to the variance in the normalization.

    Input: (batch, height, width, input channels).
    Output: (batch, height, width, channels), or with strides (batch, rows, columns, channels).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 1,
        strides: int = 1,
        depthwise: bool = False,
        activation: str = "gelu",
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "kernel_size": kernel_size,
            "strides": strides,
            "depthwise": depthwise,
            "activation": activation,
            "epsilon": epsilon,
        }
        dtype = self.dtype_policy
        shared = {
            "strides": strides,
            "padding": "same" if strides == 1 else "valid",
            "dtype": dtype,
            "name": "conv",
        }
        if depthwise:
            conv = keras.layers.DepthwiseConv2D(kernel_size, **shared)
        else:
            conv = keras.layers.Conv2D(channels, kernel_size, **shared)
        self.set_sequence(
            {
                "conv": conv,
                "activation": activation_layer(activation, dtype=dtype, name="activation"),
                "norm": keras.layers.BatchNormalization(momentum=0.9, epsilon=epsilon, dtype=dtype, name="norm"),
            }
        )

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class ConvMixerBlock(Composite):
    """Mix pixels with a depthwise convolution in a residual branch, then mix channels with a 1 x 1 convolution.

    Args:
        channels: Channels of the map.
        kernel_size: Side of the kernel of the depthwise convolution.
        activation: Name of the activation after each convolution, as in `MLP`.
        epsilon: Added to the variance in the batch normalizations.
        drop_path_rate: Rate of stochastic depth of the residual branch.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        activation: str = "gelu",
        epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "kernel_size": kernel_size,
            "activation": activation,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        shared = {"activation": activation, "epsilon": epsilon, "dtype": dtype}
        self.depthwise = ConvActivationNorm(channels, kernel_size, depthwise=True, name="depthwise", **shared)
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add = keras.layers.Add(dtype=dtype, name="add")
        self.pointwise = ConvActivationNorm(channels, name="pointwise", **shared)

    def build(self, input_shape):
        self.depthwise.build(input_shape)
        self.pointwise.build(input_shape)

    def call(self, inputs):
        return self.pointwise(self.add([inputs, self.drop_path(self.depthwise(inputs))]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
