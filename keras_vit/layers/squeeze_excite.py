"""Squeeze-and-excitation (Hu et al., arXiv 1709.01507, section 3)."""

import keras

from keras_vit.layers.activations import activation_layer
from keras_vit.layers.composite import Composite


@keras.saving.register_keras_serializable("keras_vit")
class SqueezeExcite(Composite):
    """Multiply each channel of a map by a factor in (0, 1) that is computed from the means of all channels.

    Args:
        channels: Channels of the map.
        hidden_channels: Channels between the two convolutions.
        activation: Name of the activation between them, as in `MLP`.

    Input and output: (batch, height, width, channels).
    """

    def __init__(self, channels: int, hidden_channels: int, activation: str = "relu", **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.hidden_channels = hidden_channels
        self.activation_name = activation
        dtype = self.dtype_policy
        self.pool = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype=dtype, name="pool")
        self.reduce = keras.layers.Conv2D(hidden_channels, 1, dtype=dtype, name="reduce")
        self.activation = activation_layer(activation, dtype=dtype, name="activation")
        self.expand = keras.layers.Conv2D(channels, 1, dtype=dtype, name="expand")
        self.gate = keras.layers.Activation("sigmoid", dtype=dtype, name="gate")
        self.multiply = keras.layers.Multiply(dtype=dtype, name="multiply")

    def build(self, input_shape):
        self.reduce.build((input_shape[0], 1, 1, self.channels))
        self.expand.build((input_shape[0], 1, 1, self.hidden_channels))

    def call(self, inputs):
        squeezed = self.activation(self.reduce(self.pool(inputs)))
        return self.multiply([inputs, self.gate(self.expand(squeezed))])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "hidden_channels": self.hidden_channels,
            "activation": self.activation_name,
        }
