"""Convolution, batch normalization and activation in one layer."""

import keras

from keras_vit.layers.activations import activation_layer
from keras_vit.layers.composite import SequentialComposite


@keras.saving.register_keras_serializable("keras_vit")
class ConvNorm(SequentialComposite):
    """Apply a convolution with symmetric zero padding, then an optional batch normalization and activation.

    TensorFlow's "same" padding of a strided convolution can put more zeros at the bottom and right than at the top and
    left. The published models were trained with PyTorch's symmetric padding, so a layer of its own pads here.

    Args:
        channels: Output channels; for a depthwise convolution a multiple of the input channels.
        kernel_size: Side of the kernel, odd.
        strides: Strides of the convolution, 1 or more.
        groups: Number of groups of a grouped convolution.
        depthwise: Whether the convolution is depthwise.
        input_channels: Channels of the input; required only if `depthwise`.
        use_bias: Whether the convolution has a bias.
        norm: Whether there is a batch normalization.
        activation: Name of a Keras activation, or "gelu_tanh", or None.
        epsilon: Added to the variance in the normalization; 1e-5 is PyTorch's default.
        gamma_initializer: Initializer of the normalization's scale. With "zeros", a residual branch starts as zero.

    Input: (batch, height, width, channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), channels).

    Raises:
        ValueError: `depthwise` is set, and `channels` is not a multiple of `input_channels`.
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
                    "The channels of a depthwise convolution must be a multiple of input_channels; "
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
