"""From a sequence of tokens to one vector an image."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class TokenPooling(keras.layers.Layer):
    """Takes the first token of a sequence.

    It is a slice that keeps the axis and a reshape, since a slice that drops an axis splits the graph on a device.

    Input: (batch, tokens, dim). Output: (batch, dim).
    """

    def call(self, tokens):
        return ops.reshape(tokens[:, :1], (-1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])
