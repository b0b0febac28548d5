"""Separable self-attention (Mehta and Rastegari, arXiv 2206.02680, section 3.2)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.matmul import MatMul


@keras.saving.register_keras_serializable("keras_vit")
class SeparableSelfAttention(Composite):
    """Attention whose cost is linear in the number of tokens.

    Each token gets one score. The softmax of the scores over a group's tokens weighs their keys, and the weighted sum,
    the context vector, multiplies the rectified value of every token in the group. The softmax computes in float32 at
    least.

    Args:
        dim: Width of a token.
        dropout_rate: Dropout after the output projection.
        attention_dropout_rate: Dropout of the softmax's output.
        groups: Into how many sequences of equal length, one after the other, the tokens fall that do not see each
            other.

    Input and output: (batch, tokens, dim), with a fixed number of tokens.
    """

    def __init__(
        self,
        dim: int,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        groups: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim = dim
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.groups = groups

        dtype = self.dtype_policy
        self.query = keras.layers.Dense(1, dtype=dtype, name="query")
        self.key = keras.layers.Dense(dim, dtype=dtype, name="key")
        self.value = keras.layers.Dense(dim, activation="relu", dtype=dtype, name="value")
        self.softmax = keras.layers.Activation(
            "softmax", dtype=keras.backend.result_type(self.variable_dtype, "float32"), name="softmax"
        )
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = MatMul(dtype=dtype, name="context")
        self.multiply = keras.layers.Multiply(dtype=dtype, name="multiply")
        self.projection = keras.layers.Dense(dim, dtype=dtype, name="projection")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        if input_shape[1] is None or input_shape[2] != self.dim or input_shape[1] % self.groups:
            raise ValueError(
                f"SeparableSelfAttention takes (batch, tokens, {self.dim}) with a fixed number of tokens that is a "
                f"multiple of {self.groups}; received the shape {tuple(input_shape)}."
            )
        for dense in (self.query, self.key, self.value, self.projection):
            dense.build(input_shape)

    def call(self, tokens):
        length = tokens.shape[1] // self.groups
        scores = ops.reshape(self.query(tokens), (-1, self.groups, 1, length))
        key = ops.reshape(self.key(tokens), (-1, self.groups, length, self.dim))
        value = ops.reshape(self.value(tokens), (-1, self.groups, length, self.dim))
        context = self.context(self.attention_dropout(self.softmax(scores)), key)
        outputs = ops.reshape(self.multiply([value, context]), (-1, tokens.shape[1], self.dim))
        return self.dropout(self.projection(outputs))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "groups": self.groups,
        }
