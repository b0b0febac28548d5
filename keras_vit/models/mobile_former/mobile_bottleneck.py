"""The three stacks of convolutions of Mobile-Former (Chen et al., arXiv 2108.05895, section 3).

A batch normalization follows every convolution. With grouped pointwise convolutions (the 26M model), channel shuffles
mix the groups. After a depthwise convolution that multiplies the channels, the shuffle has one group for each input
channel.
"""

import keras

from keras_vit.layers.composite import Composite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.drop_path import DropPath
from keras_vit.models.mobile_former.channel_shuffle import ChannelShuffle
from keras_vit.models.mobile_former.dynamic_relu import DynamicReLU


@keras.saving.register_keras_serializable("keras_vit")
class LiteBottleneck(Composite):
    """Compute a depthwise convolution that multiplies the channels, ReLU6, and a pointwise convolution.

    This is the first block of every model. It has a shortcut if input and output have the same shape.

    Args:
        input_channels: Channels of the input.
        hidden_channels: Channels between the convolutions, a multiple of the input's.
        channels: Channels of the output.
        strides: Strides of the depthwise convolution.
        groups: Number of groups of the pointwise convolution.

    Input: (batch, rows, columns, input_channels).
    Output: (batch, ceil(rows / strides), ceil(columns / strides), channels).
    """

    def __init__(
        self, input_channels: int, hidden_channels: int, channels: int, strides: int = 1, groups: int = 1, **kwargs
    ):
        super().__init__(**kwargs)
        self.settings = {
            "input_channels": input_channels,
            "hidden_channels": hidden_channels,
            "channels": channels,
            "strides": strides,
            "groups": groups,
        }
        dtype = self.dtype_policy
        self.depthwise = ConvNorm(
            hidden_channels,
            3,
            strides,
            depthwise=True,
            input_channels=input_channels,
            activation="relu6",
            dtype=dtype,
            name="depthwise",
        )
        self.shuffle = ChannelShuffle(input_channels if groups > 1 else 1, dtype=dtype, name="shuffle")
        self.project = ConvNorm(channels, groups=groups, dtype=dtype, name="project")
        if strides == 1 and input_channels == channels:
            self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, input_shape):
        self.depthwise.build(input_shape)
        self.project.build(self.depthwise.compute_output_shape(input_shape))

    def call(self, features):
        x = self.project(self.shuffle(self.depthwise(features)))
        return self.add([features, x]) if hasattr(self, "add") else x

    def compute_output_shape(self, input_shape):
        return self.project.compute_output_shape(self.depthwise.compute_output_shape(input_shape))

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class MobileBottleneck(Composite):
    """Compute a pointwise, a depthwise and a pointwise convolution with dynamic ReLUs between them.

    It keeps the resolution, and has a shortcut if input and output have the same number of channels.

    Args:
        input_channels: Channels of the input.
        hidden_channels: Channels between the pointwise convolutions.
        channels: Channels of the output.
        width: Width of the token.
        groups: Number of groups of the pointwise convolutions.
        drop_path_rate: Rate of stochastic depth of the convolutions that the shortcut skips.

    Inputs: features (batch, rows, columns, input_channels) and a token (batch, width).
    Output: (batch, rows, columns, channels).
    """

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int,
        channels: int,
        width: int,
        groups: int = 1,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "input_channels": input_channels,
            "hidden_channels": hidden_channels,
            "channels": channels,
            "width": width,
            "groups": groups,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        self.expand = ConvNorm(hidden_channels, groups=groups, dtype=dtype, name="expand")
        self.shuffle1 = ChannelShuffle(groups, dtype=dtype, name="shuffle1")
        self.expand_relu = DynamicReLU(hidden_channels, width, dtype=dtype, name="expand_relu")
        self.depthwise = ConvNorm(
            hidden_channels, 3, depthwise=True, input_channels=hidden_channels, dtype=dtype, name="depthwise"
        )
        self.depthwise_relu = DynamicReLU(hidden_channels, width, dtype=dtype, name="depthwise_relu")
        self.project = ConvNorm(channels, groups=groups, dtype=dtype, name="project")
        self.shuffle2 = ChannelShuffle(groups, dtype=dtype, name="shuffle2")
        if input_channels == channels:
            self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
            self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, features_shape, token_shape):
        self.expand.build(features_shape)
        expanded_shape = self.expand.compute_output_shape(features_shape)
        self.expand_relu.build(expanded_shape, token_shape)
        self.depthwise.build(expanded_shape)
        self.depthwise_relu.build(expanded_shape, token_shape)
        self.project.build(expanded_shape)

    def call(self, features, token):
        x = self.expand_relu(self.shuffle1(self.expand(features)), token)
        x = self.depthwise_relu(self.depthwise(x), token)
        x = self.shuffle2(self.project(x))
        return self.add([features, self.drop_path(x)]) if hasattr(self, "add") else x

    def compute_output_shape(self, features_shape, token_shape):
        return (*features_shape[:-1], self.settings["channels"])

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class DownsamplingBottleneck(Composite):
    """Compute two pairs of a depthwise convolution, which multiplies the channels, and a pointwise one.

    The first depthwise convolution has a stride. A dynamic ReLU follows each depthwise convolution, and a shortcut
    skips the second pair.

    Args:
        input_channels: Channels of the input.
        hidden_channels: Channels between the first two convolutions, a multiple of the input's. Between the last two,
            there are four times the channels of the output.
        channels: Channels of the output.
        width: Width of the token.
        strides: Strides of the first convolution.
        groups: Number of groups of the pointwise convolutions.
        drop_path_rate: Rate of stochastic depth of the second pair.

    Inputs: features (batch, rows, columns, input_channels) and a token (batch, width).
    Output: (batch, ceil(rows / strides), ceil(columns / strides), channels).
    """

    def __init__(
        self,
        input_channels: int,
        hidden_channels: int,
        channels: int,
        width: int,
        strides: int = 2,
        groups: int = 1,
        drop_path_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "input_channels": input_channels,
            "hidden_channels": hidden_channels,
            "channels": channels,
            "width": width,
            "strides": strides,
            "groups": groups,
            "drop_path_rate": drop_path_rate,
        }
        dtype = self.dtype_policy
        self.depthwise1 = ConvNorm(
            hidden_channels, 3, strides, depthwise=True, input_channels=input_channels, dtype=dtype, name="depthwise1"
        )
        self.shuffle1 = ChannelShuffle(input_channels if groups > 1 else 1, dtype=dtype, name="shuffle1")
        self.depthwise1_relu = DynamicReLU(hidden_channels, width, dtype=dtype, name="depthwise1_relu")
        self.project1 = ConvNorm(channels, groups=groups, dtype=dtype, name="project1")
        self.depthwise2 = ConvNorm(
            4 * channels, 3, depthwise=True, input_channels=channels, dtype=dtype, name="depthwise2"
        )
        self.shuffle2 = ChannelShuffle(channels if groups > 1 else 1, dtype=dtype, name="shuffle2")
        self.depthwise2_relu = DynamicReLU(4 * channels, width, dtype=dtype, name="depthwise2_relu")
        self.project2 = ConvNorm(channels, groups=groups, dtype=dtype, name="project2")
        self.drop_path = DropPath(drop_path_rate, dtype=dtype, name="drop_path")
        self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, features_shape, token_shape):
        x = features_shape
        for depthwise, relu, project in (
            (self.depthwise1, self.depthwise1_relu, self.project1),
            (self.depthwise2, self.depthwise2_relu, self.project2),
        ):
            depthwise.build(x)
            x = depthwise.compute_output_shape(x)
            relu.build(x, token_shape)
            project.build(x)
            x = project.compute_output_shape(x)

    def call(self, features, token):
        x = self.depthwise1_relu(self.shuffle1(self.depthwise1(features)), token)
        smaller = self.project1(x)
        x = self.depthwise2_relu(self.shuffle2(self.depthwise2(smaller)), token)
        return self.add([smaller, self.drop_path(self.project2(x))])

    def compute_output_shape(self, features_shape, token_shape):
        return self.project1.compute_output_shape(self.depthwise1.compute_output_shape(features_shape))

    def get_config(self):
        return {**super().get_config(), **self.settings}
