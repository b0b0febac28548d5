"""Separable self-attention (Mehta and Rastegari, arXiv 2206.02680, section 3.2)."""

import keras
from keras import ops

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.composite import Composite


@keras.saving.register_keras_serializable("keras_vit")
class WeightedSum(keras.layers.Layer):
    """Return the weighted sum of tokens, computed in float32 or higher precision, whatever the dtype policy.

    This is not a `MatMul`, because the softmax weights of hundreds of tokens are too small for int8, and int8 would not
    speed up a product with a single row.

    Inputs: tokens (batch, n, groups, width) and weights (batch, n, groups, 1). Output: (batch, 1, groups, width).
    """

    def call(self, tokens, weights):
        dtype = keras.backend.result_type(tokens.dtype, "float32")
        weighted = ops.cast(tokens, dtype) * ops.cast(weights, dtype)
        return ops.cast(ops.sum(weighted, axis=1, keepdims=True), tokens.dtype)

    def compute_output_shape(self, tokens_shape, weights_shape):
        return (tokens_shape[0], 1, *tokens_shape[2:])

    def get_config(self):  # Without this method, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class SeparableSelfAttention(Composite):
    """Compute attention at a cost that is linear in the number of tokens.

    Each token has one score. The softmax of the scores weights the keys of a group's tokens. Their weighted sum, the
    context vector, multiplies the rectified value of every token in the group. The softmax computes in float32 or
    higher precision.

    Args:
        width: Width of a token.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the softmax's output.
        groups: Number of groups of tokens, as in `MultiHeadAttention`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def __init__(
        self,
        width: int,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        groups: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.width = width
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.groups = groups

        dtype = self.dtype_policy
        self.query = keras.layers.Dense(1, dtype=dtype, name="query")
        self.key = keras.layers.Dense(width, dtype=dtype, name="key")
        self.value = keras.layers.Dense(width, activation="relu", dtype=dtype, name="value")
        self.softmax = AttentionSoftmax(dtype=keras.backend.result_type(self.variable_dtype, "float32"), name="softmax")
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = WeightedSum(dtype=dtype, name="context")
        self.multiply = keras.layers.Multiply(dtype=dtype, name="multiply")
        self.projection = keras.layers.Dense(width, dtype=dtype, name="projection")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        if input_shape[1] is None or input_shape[2] != self.width or input_shape[1] % self.groups:
            raise ValueError(
                f"SeparableSelfAttention expects (batch, tokens, {self.width}) with a fixed number of tokens that is a "
                f"multiple of {self.groups}; received the shape {tuple(input_shape)}."
            )
        for dense in (self.query, self.key, self.value, self.projection):
            dense.build(input_shape)

    def call(self, tokens):
        length = tokens.shape[1] // self.groups
        scores = ops.transpose(ops.reshape(self.query(tokens), (-1, length, self.groups)), (0, 2, 1))
        weights = ops.transpose(self.attention_dropout(self.softmax(scores)), (0, 2, 1))
        key, value = (
            ops.reshape(layer(tokens), (-1, length, self.groups, self.width)) for layer in (self.key, self.value)
        )
        context = self.context(key, ops.reshape(weights, (-1, length, self.groups, 1)))
        outputs = ops.reshape(self.multiply([value, context]), (-1, tokens.shape[1], self.width))
        return self.dropout(self.projection(outputs))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "groups": self.groups,
        }
