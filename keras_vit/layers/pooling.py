"""Pooling of a sequence of tokens to one vector per image."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class TokenPooling(keras.layers.Layer):
    """Return one token of a sequence.

    It computes a slice that keeps the axis and then a reshape, since a slice that drops an axis splits the graph on a
    device.

    Args:
        index: Index of the token, counted from 0.

    Input: (batch, tokens, width). Output: (batch, width).
    """

    def __init__(self, index: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.index = index

    def call(self, tokens):
        return ops.reshape(tokens[:, self.index : self.index + 1], (-1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def get_config(self):
        return {**super().get_config(), "index": self.index}
