"""Squeeze-and-excitation (Hu et al., arXiv 1709.01507, section 3)."""

import keras

from keras_vit.layers.composite import Composite


@keras.saving.register_keras_serializable("keras_vit")
class SqueezeExcite(Composite):
    """Multiplies each channel of a map by a number in (0, 1) that is computed from the means of all channels.

    Args:
        filters: Channels of the map.
        hidden: Channels between the two convolutions.

    Input and output: (batch, height, width, filters).
    """

    def __init__(self, filters: int, hidden: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.hidden = hidden
        dtype = self.dtype_policy
        self.pool = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype=dtype, name="pool")
        self.reduce = keras.layers.Conv2D(hidden, 1, dtype=dtype, name="reduce")
        self.activation = keras.layers.Activation("relu", dtype=dtype, name="activation")
        self.expand = keras.layers.Conv2D(filters, 1, dtype=dtype, name="expand")
        self.gate = keras.layers.Activation("sigmoid", dtype=dtype, name="gate")
        self.multiply = keras.layers.Multiply(dtype=dtype, name="multiply")

    def build(self, input_shape):
        self.reduce.build((input_shape[0], 1, 1, self.filters))
        self.expand.build((input_shape[0], 1, 1, self.hidden))

    def call(self, inputs):
        squeezed = self.activation(self.reduce(self.pool(inputs)))
        return self.multiply([inputs, self.gate(self.expand(squeezed))])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "hidden": self.hidden}
