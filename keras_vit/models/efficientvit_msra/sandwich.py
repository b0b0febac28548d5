"""The blocks of Microsoft Research's EfficientViT (Liu et al., arXiv 2305.07027, section 3.2 and figure 6)."""

import keras

from keras_vit.layers.composite import Composite, SequentialComposite
from keras_vit.layers.conv_branch import ConvMLP, DepthwiseConv
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.squeeze_excite import SqueezeExcite
from keras_vit.models.efficientvit_msra.cascaded_attention import CascadedGroupAttention


@keras.saving.register_keras_serializable("keras_vit")
class SandwichBlock(Composite):
    """Compute an attention between two MLPs, each MLP after a depthwise convolution. All are residual branches.

    Args:
        channels: Channels of the map.
        num_heads: Number of heads of the attention.
        size: Rows and columns of the map.
        window: Largest side of a window of the attention.
        key_dim: Channels of a query and of a key.
        kernel_sizes: Kernel sizes of the queries' convolutions, as in `CascadedGroupAttention`.
        expansion: Ratio of an MLP's hidden channels to its input channels.
        epsilon: Added to the variance in the batch normalizations.
        drop_path_rate: Rate of stochastic depth of every branch.

    Input and output: (batch, rows, columns, channels).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        window: int = 7,
        key_dim: int = 16,
        kernel_sizes: tuple[int, ...] = (5, 5, 5, 5),
        expansion: float = 2,
        epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "window": window,
            "key_dim": key_dim,
            "kernel_sizes": tuple(kernel_sizes),
            "expansion": expansion,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        branch = {"epsilon": epsilon, "drop_path_rate": drop_path_rate, "dtype": dtype}
        self.depthwise0 = DepthwiseConv(channels, channels, **branch, name="depthwise0")
        self.mlp0 = ConvMLP(channels, channels, expansion=expansion, **branch, name="mlp0")
        self.attention = CascadedGroupAttention(
            channels, num_heads, size, window, key_dim, kernel_sizes, epsilon, dtype=dtype, name="attention"
        )
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add = keras.layers.Add(dtype=dtype, name="add")
        self.depthwise1 = DepthwiseConv(channels, channels, **branch, name="depthwise1")
        self.mlp1 = ConvMLP(channels, channels, expansion=expansion, **branch, name="mlp1")

    def build(self, input_shape):
        for part in self.parts().values():
            if part is not self.add:
                part.build(input_shape)

    def call(self, inputs):
        x = self.mlp0(self.depthwise0(inputs))
        x = self.add([x, self.drop_path(self.attention(x))])
        return self.mlp1(self.depthwise1(x))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class PatchMerging(SequentialComposite):
    """Halve the resolution of a map by an inverted residual with squeeze-and-excitation, without a shortcut.

    Args:
        channels: Output channels.
        input_channels: Channels of the input.
        epsilon: Added to the variance in the batch normalizations.

    Input: (batch, height, width, input_channels). Output: (batch, ceil(height / 2), ceil(width / 2), channels).
    """

    def __init__(self, channels: int, input_channels: int, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"channels": channels, "input_channels": input_channels, "epsilon": epsilon}
        dtype = self.dtype_policy
        hidden_channels = 4 * input_channels
        shared = {"epsilon": epsilon, "dtype": dtype}
        self.set_sequence(
            {
                "expand": ConvNorm(hidden_channels, activation="relu", **shared, name="expand"),
                "depthwise": ConvNorm(
                    hidden_channels,
                    3,
                    strides=2,
                    depthwise=True,
                    input_channels=hidden_channels,
                    activation="relu",
                    **shared,
                    name="depthwise",
                ),
                "squeeze_excite": SqueezeExcite(
                    hidden_channels, hidden_channels // 4, dtype=dtype, name="squeeze_excite"
                ),
                "project": ConvNorm(channels, **shared, name="project"),
            }
        )

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class SandwichDownsample(SequentialComposite):
    """Compute `PatchMerging` between two MLPs, each MLP after a depthwise convolution.

    Args:
        channels: Output channels.
        input_channels: Channels of the input.
        expansion: Ratio of an MLP's hidden channels to its input channels.
        epsilon: Added to the variance in the batch normalizations.

    Input: (batch, height, width, input_channels). Output: (batch, ceil(height / 2), ceil(width / 2), channels).
    """

    def __init__(self, channels: int, input_channels: int, expansion: float = 2, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "input_channels": input_channels,
            "expansion": expansion,
            "epsilon": epsilon,
        }
        shared = {"epsilon": epsilon, "dtype": self.dtype_policy}
        # The authors initialize the depthwise branches of a block to zero, but not these.
        depthwise = {**shared, "zero_init": False}
        wide, new = (input_channels, input_channels), (channels, channels)
        self.set_sequence(
            {
                "depthwise0": DepthwiseConv(*wide, **depthwise, name="depthwise0"),
                "mlp0": ConvMLP(*wide, expansion=expansion, **shared, name="mlp0"),
                "merge": PatchMerging(channels, input_channels, **shared, name="merge"),
                "depthwise1": DepthwiseConv(*new, **depthwise, name="depthwise1"),
                "mlp1": ConvMLP(*new, expansion=expansion, **shared, name="mlp1"),
            }
        )

    def get_config(self):
        return {**super().get_config(), **self.settings}
