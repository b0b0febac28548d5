"""The blocks of CoAtNet (Dai et al., arXiv 2106.04803, section 2.2 and appendix A)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.squeeze_excite import SqueezeExcite
from keras_vit.models.coatnet.relative_attention import RelativeSelfAttention


@keras.saving.register_keras_serializable("keras_vit")
class Shortcut(Composite):
    """Return the input of a residual branch in the branch's shape: averaged over 2 x 2 pixels, then projected.

    Args:
        channels: Output channels.
        input_channels: Channels of the input. The projection is left out if they are as many.
        strides: 2, or 1 to return the input.

    Input: (batch, height, width, input_channels), with even sides for strides of 2.
    Output: (batch, height / strides, width / strides, channels).
    """

    def __init__(self, channels: int, input_channels: int, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"channels": channels, "input_channels": input_channels, "strides": strides}
        dtype = self.dtype_policy
        if strides > 1:
            self.pool = keras.layers.AveragePooling2D(2, dtype=dtype, name="pool")
        if channels != input_channels:
            self.project = keras.layers.Conv2D(channels, 1, dtype=dtype, name="project")

    def build(self, input_shape):
        if "project" in self.parts():
            self.project.build(input_shape)

    def call(self, inputs):
        for part in self.parts().values():
            inputs = part(inputs)
        return inputs

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        strides = self.settings["strides"]
        return (batch, height // strides, width // strides, self.settings["channels"])

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class PreNormMBConv(Composite):
    """Apply an inverted residual with squeeze-and-excitation, which begins with a batch normalization.

    Args:
        channels: Output channels.
        input_channels: Channels of the input.
        strides: Strides of the depthwise convolution, 1 or 2.
        expansion: Ratio of the hidden channels to the output channels.
        activation: Name of the activation of the convolutions, as in `ConvNorm`.
        epsilon: Added to the variance in the batch normalizations.
        drop_path_rate: Rate of stochastic depth of the residual branch.

    Input: (batch, height, width, input_channels), with even sides for strides of 2.
    Output: (batch, height / strides, width / strides, channels).
    """

    def __init__(
        self,
        channels: int,
        input_channels: int,
        strides: int = 1,
        expansion: int = 4,
        activation: str = "gelu",
        epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "input_channels": input_channels,
            "strides": strides,
            "expansion": expansion,
            "activation": activation,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        hidden = expansion * channels
        shared = {"activation": activation, "epsilon": epsilon, "dtype": dtype}
        self.pre_norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=epsilon, dtype=dtype, name="pre_norm")
        self.expand = ConvNorm(hidden, name="expand", **shared)
        self.depthwise = ConvNorm(
            hidden, 3, strides=strides, depthwise=True, input_channels=hidden, name="depthwise", **shared
        )
        self.squeeze_excite = SqueezeExcite(hidden, channels // 4, "silu", dtype=dtype, name="squeeze_excite")
        self.project = ConvNorm(channels, use_bias=True, norm=False, dtype=dtype, name="project")
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.shortcut = Shortcut(channels, input_channels, strides, dtype=dtype, name="shortcut")
        self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, input_shape):
        self.shortcut.build(input_shape)
        for part in (self.pre_norm, self.expand, self.depthwise, self.squeeze_excite, self.project):
            part.build(input_shape)
            input_shape = part.compute_output_shape(input_shape)

    def call(self, inputs):
        x = self.squeeze_excite(self.depthwise(self.expand(self.pre_norm(inputs))))
        return self.add([self.shortcut(inputs), self.drop_path(self.project(x))])

    def compute_output_shape(self, input_shape):
        return self.shortcut.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class RelativeTransformerBlock(Composite):
    """Compute a transformer block over the pixels of a map, with relative attention, which may halve the map.

    Args:
        size: (height, width) of the input map.
        channels: Output channels.
        input_channels: Channels of the input.
        num_heads: Number of attention heads.
        mlp_dim: Units between the two dense layers of the MLP.
        strides: 1, or 2 to average the normalized input over 2 x 2 pixels.
        activation: Name of the MLP's activation, as in `MLP`.
        epsilon: Added to the variance in both normalizations.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input: (batch, height, width, input_channels), with even sides for strides of 2.
    Output: (batch, height / strides, width / strides, channels).
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int,
        input_channels: int,
        num_heads: int,
        mlp_dim: int,
        strides: int = 1,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "size": tuple(size),
            "channels": channels,
            "input_channels": input_channels,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "strides": strides,
            "activation": activation,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        self.output_size = (size[0] // strides, size[1] // strides)
        self.norm1 = LayerNorm(epsilon, dtype=dtype, name="norm1")
        if strides > 1:
            self.pool = keras.layers.AveragePooling2D(2, dtype=dtype, name="pool")
        self.attention = RelativeSelfAttention(
            channels, num_heads, self.output_size, dropout_rate, attention_dropout_rate, dtype=dtype, name="attention"
        )
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.shortcut = Shortcut(channels, input_channels, strides, dtype=dtype, name="shortcut")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.norm2 = LayerNorm(epsilon, dtype=dtype, name="norm2")
        self.mlp = MLP(channels, mlp_dim, activation, dropout_rate, dtype=dtype, name="mlp")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def build(self, input_shape):
        height, width = self.output_size
        batch, channels, input_channels = input_shape[0], self.settings["channels"], self.settings["input_channels"]
        self.norm1.build(input_shape)
        self.shortcut.build(input_shape)
        self.attention.build((batch, height * width, input_channels))
        for part in (self.norm2, self.mlp):
            part.build((batch, height * width, channels))

    def call(self, inputs):
        height, width = self.output_size

        def tokens(maps):
            return ops.reshape(maps, (-1, height * width, maps.shape[-1]))

        x = self.norm1(inputs)
        if self.settings["strides"] > 1:
            x = self.pool(x)
        x = self.add1([tokens(self.shortcut(inputs)), self.drop_path1(self.attention(tokens(x)))])
        x = self.add2([x, self.drop_path2(self.mlp(self.norm2(x)))])
        return ops.reshape(x, (-1, height, width, self.settings["channels"]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.output_size, self.settings["channels"])

    def get_config(self):
        return {**super().get_config(), **self.settings}
