"""Residual branches of convolutions, such as the inverted residual (Sandler et al., arXiv 1801.04381, section 3.3)."""

import keras

from keras_vit.layers.composite import SequentialComposite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath


class ConvBranch(SequentialComposite):
    """Base class of convolutions in sequence, with a residual connection where input and output have one shape.

    A subclass lists its convolutions in `chain`. The activation follows all but the last of them.

    Args:
        channels: Output channels.
        input_channels: Channels of the input.
        strides: Strides of the one convolution that has a stride, 1 or more.
        expansion: Ratio of the hidden channels to the input channels, for branches that have hidden channels.
        kernel_size: Side of the kernels that are not 1 x 1, odd.
        activation: Name of the activation, as in `ConvNorm`.
        epsilon: Added to the variance in the batch normalizations.
        fewer_norm: Whether all convolutions but the last have a bias instead of a batch normalization.
        zero_init: Whether the last normalization of a residual branch starts with a scale of zero, so that the block
            starts as the identity.
        drop_path_rate: Rate of stochastic depth of a residual branch.

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
        between = {"activation": activation, "norm": not fewer_norm, "use_bias": fewer_norm}
        end = {"gamma_initializer": "zeros" if zero_init and self.is_residual else "ones"}
        self.set_sequence(
            {
                name: ConvNorm(**convolution, **role, epsilon=epsilon, dtype=dtype, name=name)
                for (name, convolution), role in [*((one, between) for one in inner), (last, end)]
            }
        )
        if self.is_residual:
            self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
            self.add = keras.layers.Add(dtype=dtype, name="add")

    def chain(self, channels: int, hidden_channels: int) -> dict[str, dict]:
        """Return the arguments of `ConvNorm` of each convolution by the name of its attribute, in order."""
        raise NotImplementedError

    def _around(self, channels, strides=1, depthwise=False):
        """Return the arguments of a convolution with the branch's kernel size."""
        settings = {"channels": channels, "kernel_size": self.settings["kernel_size"], "strides": strides}
        return {**settings, "depthwise": True, "input_channels": channels} if depthwise else settings

    def build(self, input_shape):
        super().build(input_shape)
        if self.is_residual:
            self.drop_path.build(input_shape)

    def call(self, inputs):
        x = super().call(inputs)
        return self.add([inputs, self.drop_path(x)]) if self.is_residual else x

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class MBConv(ConvBranch):
    """Apply an inverted residual: a 1 x 1 expansion, a depthwise convolution, and a 1 x 1 projection."""

    def chain(self, channels, hidden_channels):
        return {
            "expand": {"channels": hidden_channels},
            "depthwise": self._around(hidden_channels, self.settings["strides"], depthwise=True),
            "project": {"channels": channels},
        }


@keras.saving.register_keras_serializable("keras_vit")
class FusedMBConv(ConvBranch):
    """Apply an `MBConv` whose first two convolutions are one full convolution (Tan and Le, arXiv 2104.00298, 3.2)."""

    def chain(self, channels, hidden_channels):
        return {"spatial": self._around(hidden_channels, self.settings["strides"]), "project": {"channels": channels}}


@keras.saving.register_keras_serializable("keras_vit")
class DepthwiseSeparableConv(ConvBranch):
    """Apply a depthwise and then a 1 x 1 convolution (Howard et al., arXiv 1704.04861, section 3.1)."""

    def chain(self, channels, hidden_channels):
        inputs, strides = self.settings["input_channels"], self.settings["strides"]
        return {"depthwise": self._around(inputs, strides, depthwise=True), "project": {"channels": channels}}


@keras.saving.register_keras_serializable("keras_vit")
class BasicConv(ConvBranch):
    """Apply two full convolutions (He et al., arXiv 1512.03385, figure 5, left)."""

    def chain(self, channels, hidden_channels):
        return {"conv1": self._around(channels, self.settings["strides"]), "conv2": self._around(channels)}


@keras.saving.register_keras_serializable("keras_vit")
class DepthwiseConv(ConvBranch):
    """Apply one depthwise convolution."""

    def chain(self, channels, hidden_channels):
        return {"depthwise": self._around(channels, self.settings["strides"], depthwise=True)}


@keras.saving.register_keras_serializable("keras_vit")
class ConvMLP(ConvBranch):
    """Apply two 1 x 1 convolutions: the MLP of a transformer block, with batch normalization."""

    def chain(self, channels, hidden_channels):
        return {"expand": {"channels": hidden_channels}, "project": {"channels": channels}}
