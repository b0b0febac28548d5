"""Convolution, batch normalization, activation: what every convolutional stage here is made of."""

import keras

from keras_vit.layers.activations import activation_layer
from keras_vit.layers.composite import SequentialComposite


@keras.saving.register_keras_serializable("keras_vit")
class ConvNorm(SequentialComposite):
    """A convolution with symmetric zero padding, then batch normalization, then an activation; each may be left out.

    With a stride, "same" padding of TensorFlow puts an odd row of zeros at the bottom, PyTorch's at the top. The models
    here were trained with the latter, so a strided convolution pads by itself.

    Args:
        channels: Output channels. For a depthwise convolution a multiple of the input's.
        kernel_size: Side of the kernel, odd.
        strides: 1 or more.
        groups: Groups of channels that do not see each other.
        depthwise: Whether each channel is a group of its own.
        input_channels: Channels of the input; needed for a depthwise convolution only.
        use_bias: Whether the convolution has a bias.
        norm: Whether there is a batch normalization.
        activation: Name of a Keras activation, "gelu_tanh", or None for none.
        epsilon: Of the normalization; 1e-5 is PyTorch's default.
        gamma_initializer: Of the normalization's scale. "zeros" makes a residual branch start as nothing.

    Input: (batch, height, width, channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), channels).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 1,
        strides: int = 1,
        groups: int = 1,
        depthwise: bool = False,
        input_channels: int | None = None,
        use_bias: bool = False,
        norm: bool = True,
        activation: str | None = None,
        epsilon: float = 1e-5,
        gamma_initializer: str = "ones",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "kernel_size": kernel_size,
            "strides": strides,
            "groups": groups,
            "depthwise": depthwise,
            "input_channels": input_channels,
            "use_bias": use_bias,
            "norm": norm,
            "activation": activation,
            "epsilon": epsilon,
            "gamma_initializer": gamma_initializer,
        }
        dtype = self.dtype_policy
        padding, parts = "same", {}
        if strides > 1 and kernel_size > 1:
            parts["pad"] = keras.layers.ZeroPadding2D(kernel_size // 2, dtype=dtype, name="pad")
            padding = "valid"
        # He et al., arXiv 1502.01852, by fan-out. Keras' default takes a depthwise kernel's channels for its fan-in.
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        shared = {"strides": strides, "padding": padding, "use_bias": use_bias, "dtype": dtype, "name": "conv"}
        if depthwise:
            if not input_channels or channels % input_channels:
                raise ValueError(
                    "A depthwise convolution gives a multiple of its input's channels; "
                    f"received channels={channels} and input_channels={input_channels}."
                )
            parts["conv"] = keras.layers.DepthwiseConv2D(
                kernel_size,
                depth_multiplier=channels // input_channels,
                depthwise_initializer=initializer,
                **shared,
            )
        else:
            parts["conv"] = keras.layers.Conv2D(
                channels, kernel_size, groups=groups, kernel_initializer=initializer, **shared
            )
        if norm:
            parts["norm"] = keras.layers.BatchNormalization(
                momentum=0.9, epsilon=epsilon, gamma_initializer=gamma_initializer, dtype=dtype, name="norm"
            )
        if activation is not None:
            parts["activation"] = activation_layer(activation, dtype=dtype, name="activation")
        self.set_sequence(parts)

    def get_config(self):
        return {**super().get_config(), **self.settings}
