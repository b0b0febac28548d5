"""Residual branches of convolutions: the inverted residual (Sandler et al., arXiv 1801.04381, 3.3) and its kin."""

from typing import Any

import keras

from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath


class ConvBranch(Composite):
    """Convolutions in a row, added to what they were made from where stride and channels let its shape stay.

    A subclass is the table of its convolutions, `chain`. All but the last are followed by the activation.

    Args:
        channels: Output channels.
        input_channels: Channels of the input.
        strides: Of the one convolution that strides.
        expansion: Channels between the convolutions over those of the input, where a branch widens.
        kernel_size: Side of the kernels that look around, odd.
        activation: As in `ConvNorm`.
        epsilon: Of the batch normalizations.
        fewer_norm: Whether all convolutions but the last have a bias in place of a batch normalization.
        zero_init: Whether a residual branch starts as nothing: its last normalization scales by zero.
        drop_path_rate: Stochastic depth of a residual branch.

    Input: (batch, height, width, input_channels).
    Output: (batch, ceil(height / strides), ceil(width / strides), channels).
    """

    def __init__(
        self,
        channels: int,
        input_channels: int,
        strides: int = 1,
        expansion: float = 4,
        kernel_size: int = 3,
        activation: str = "relu",
        epsilon: float = 1e-5,
        fewer_norm: bool = False,
        zero_init: bool = True,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "input_channels": input_channels,
            "strides": strides,
            "expansion": expansion,
            "kernel_size": kernel_size,
            "activation": activation,
            "epsilon": epsilon,
            "fewer_norm": fewer_norm,
            "zero_init": zero_init,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        self.is_residual = strides == 1 and channels == input_channels
        *inner, last = self.chain(channels, round(input_channels * expansion)).items()
        between: dict[str, Any] = {"activation": activation, "norm": not fewer_norm, "use_bias": fewer_norm}
        end: dict[str, Any] = {"gamma_initializer": "zeros" if zero_init and self.is_residual else "ones"}
        for (name, convolution), role in [*((one, between) for one in inner), (last, end)]:
            setattr(self, name, ConvNorm(**convolution, **role, epsilon=epsilon, dtype=dtype, name=name))
        if self.is_residual:
            self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
            self.add = keras.layers.Add(dtype=dtype, name="add")

    def chain(self, channels: int, hidden_channels: int) -> dict[str, dict]:
        """By attribute's name, in order, each convolution's own arguments of `ConvNorm`."""
        raise NotImplementedError

    def _around(self, channels, strides=1, depthwise=False):
        """Arguments of a convolution with the branch's kernel size."""
        settings = {"channels": channels, "kernel_size": self.settings["kernel_size"], "strides": strides}
        return {**settings, "depthwise": True, "input_channels": channels} if depthwise else settings

    def _convolutions(self):
        return [part for part in self.parts().values() if isinstance(part, ConvNorm)]

    def build(self, input_shape):
        for convolution in self._convolutions():
            convolution.build(input_shape)
            input_shape = convolution.compute_output_shape(input_shape)
        if self.is_residual:
            self.drop_path.build(input_shape)

    def call(self, inputs):
        x = inputs
        for convolution in self._convolutions():
            x = convolution(x)
        return self.add([inputs, self.drop_path(x)]) if self.is_residual else x

    def compute_output_shape(self, input_shape):
        for convolution in self._convolutions():
            input_shape = convolution.compute_output_shape(input_shape)
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class MBConv(ConvBranch):
    """Widen by 1 x 1, look around in each channel, narrow by 1 x 1."""

    def chain(self, channels, hidden_channels):
        return {
            "expand": {"channels": hidden_channels},
            "depthwise": self._around(hidden_channels, self.settings["strides"], depthwise=True),
            "project": {"channels": channels},
        }


@keras.saving.register_keras_serializable("keras_vit")
class FusedMBConv(ConvBranch):
    """An `MBConv` whose first two convolutions are one (Tan and Le, arXiv 2104.00298, section 3.2)."""

    def chain(self, channels, hidden_channels):
        return {"spatial": self._around(hidden_channels, self.settings["strides"]), "project": {"channels": channels}}


@keras.saving.register_keras_serializable("keras_vit")
class DepthwiseSeparableConv(ConvBranch):
    """Look around in each channel, then mix them by 1 x 1 (Howard et al., arXiv 1704.04861, section 3.1)."""

    def chain(self, channels, hidden_channels):
        inputs, strides = self.settings["input_channels"], self.settings["strides"]
        return {"depthwise": self._around(inputs, strides, depthwise=True), "project": {"channels": channels}}


@keras.saving.register_keras_serializable("keras_vit")
class BasicConv(ConvBranch):
    """Two full convolutions (He et al., arXiv 1512.03385, figure 5, left)."""

    def chain(self, channels, hidden_channels):
        return {"conv1": self._around(channels, self.settings["strides"]), "conv2": self._around(channels)}


@keras.saving.register_keras_serializable("keras_vit")
class DepthwiseConv(ConvBranch):
    """Look around in each channel."""

    def chain(self, channels, hidden_channels):
        return {"depthwise": self._around(channels, self.settings["strides"], depthwise=True)}


@keras.saving.register_keras_serializable("keras_vit")
class ConvMLP(ConvBranch):
    """Widen and narrow by 1 x 1: the perceptron of a transformer block, with batch normalization."""

    def chain(self, channels, hidden_channels):
        return {"expand": {"channels": hidden_channels}, "project": {"channels": channels}}
