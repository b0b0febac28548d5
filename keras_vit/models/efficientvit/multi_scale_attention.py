"""Multi-scale linear attention, "LiteMLA" (Cai et al., arXiv 2205.14756, section 3.1 and figure 2)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.models.efficientvit.linear_attention import LinearAttention


@keras.saving.register_keras_serializable("keras_vit")
class MultiScaleAttention(Composite):
    """Compute linear attention over the pixels of a map and, in a second set of heads, over sums of nearby pixels.

    The channels of query, key and value are ordered head by head, as in the published weights. Because the pixels are
    the last axis, splitting the heads is only a reshape, and query, key and value are slices of whole rows.

    Args:
        channels: Channels of the map.
        head_dim: Channels of a head, a divisor of `channels`.
        scale: Side of the kernel that sums nearby pixels, odd.
        epsilon: Added to the variance in the projection's batch normalization.
        attention_epsilon: Added to the divisor of the attention.

    Input and output: (batch, height, width, channels), of a fixed size.
    """

    def __init__(
        self,
        channels: int,
        head_dim: int = 16,
        scale: int = 5,
        epsilon: float = 1e-5,
        attention_epsilon: float = 1e-15,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels % head_dim:
            raise ValueError(f"head_dim must divide channels; received head_dim={head_dim} and channels={channels}.")
        self.settings = {
            "channels": channels,
            "head_dim": head_dim,
            "scale": scale,
            "epsilon": epsilon,
            "attention_epsilon": attention_epsilon,
        }
        dtype = self.dtype_policy
        width = 3 * channels

        def plain(name, **settings):
            return ConvNorm(width, norm=False, dtype=dtype, name=name, **settings)

        self.qkv = plain("qkv")
        self.nearby = plain("nearby", kernel_size=scale, depthwise=True, input_channels=width)
        self.mix = plain("mix", groups=width // head_dim)
        self.join = keras.layers.Concatenate(dtype=dtype, name="join")
        self.attention = LinearAttention(attention_epsilon, dtype=dtype, name="attention")
        self.project = ConvNorm(channels, epsilon=epsilon, gamma_initializer="zeros", dtype=dtype, name="project")

    def build(self, input_shape):
        if None in input_shape[1:] or input_shape[3] != self.settings["channels"]:
            raise ValueError(
                f"MultiScaleAttention expects (batch, height, width, {self.settings['channels']}) of a fixed size; "
                f"received the shape {tuple(input_shape)}."
            )
        self.qkv.build(input_shape)
        wide = self.qkv.compute_output_shape(input_shape)
        self.nearby.build(wide)
        self.mix.build(wide)
        self.attention.build(self._heads_shape(input_shape))
        self.project.build((*input_shape[:3], 2 * input_shape[3]))

    def call(self, inputs):
        qkv = self.qkv(inputs)
        maps = self.join([qkv, self.mix(self.nearby(qkv))])
        rows, columns, channels = maps.shape[1:]
        heads = ops.transpose(ops.reshape(maps, (-1, rows * columns, channels)), (0, 2, 1))
        heads = self.attention(ops.reshape(heads, (-1, *self._heads_shape(inputs.shape)[1:])))
        attended = ops.transpose(ops.reshape(heads, (-1, channels // 3, rows * columns)), (0, 2, 1))
        return self.project(ops.reshape(attended, (-1, rows, columns, channels // 3)))

    def _heads_shape(self, input_shape):
        batch, rows, columns, channels = input_shape
        head_dim = self.settings["head_dim"]
        return (batch, 2 * channels // head_dim, 3 * head_dim, rows * columns)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
