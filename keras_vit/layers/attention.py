"""Multi-head self-attention (Vaswani et al., arXiv 1706.03762, section 3.2; in ViT, arXiv 2010.11929, appendix A)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.scale import Scale


@keras.saving.register_keras_serializable("keras_vit")
class MultiHeadSelfAttention(Composite):
    """Softmax attention of every token to every other, or to every other of its group.

    The batch stays the first axis throughout and no tensor has more than four axes, which is what mobile delegates
    ask for. The softmax computes in float32 at least.

    Args:
        dim: Width of a token.
        num_heads: Number of heads; it divides the width.
        qkv_bias: Whether query, key and value have a bias.
        dropout_rate: Dropout after the output projection.
        attention_dropout_rate: Dropout of the attention probabilities.
        groups: Into how many groups the tokens fall that do not see each other: the first token is of the first group,
            the second of the second, and so on in turn.

    Input and output: (batch, tokens, dim), with a fixed number of tokens.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        groups: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if dim % num_heads:
            raise ValueError(f"The number of heads divides the width; {num_heads} heads do not divide {dim}.")
        self.dim = dim
        self.num_heads = num_heads
        self.qkv_bias = qkv_bias
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.groups = groups

        dtype = self.dtype_policy
        self.query = keras.layers.Dense(dim, use_bias=qkv_bias, dtype=dtype, name="query")
        self.key = keras.layers.Dense(dim, use_bias=qkv_bias, dtype=dtype, name="key")
        self.value = keras.layers.Dense(dim, use_bias=qkv_bias, dtype=dtype, name="value")
        self.scale = Scale((dim // num_heads) ** -0.5, dtype=dtype, name="scale")
        self.scores = MatMul(transpose_b=True, dtype=dtype, name="scores")
        self.softmax = keras.layers.Activation(
            "softmax", dtype=keras.backend.result_type(self.variable_dtype, "float32"), name="softmax"
        )
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = MatMul(dtype=dtype, name="context")
        self.projection = keras.layers.Dense(dim, dtype=dtype, name="projection")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        if input_shape[1] is None or input_shape[2] != self.dim:
            raise ValueError(
                f"MultiHeadSelfAttention takes (batch, tokens, {self.dim}) with a fixed number of tokens; "
                f"received the shape {tuple(input_shape)}."
            )
        if input_shape[1] % self.groups:
            raise ValueError(f"{input_shape[1]} tokens do not fall into {self.groups} groups of the same size.")
        for dense in (self.query, self.key, self.value, self.projection):
            dense.build(input_shape)

    def call(self, tokens):
        query = self._split_heads(self.scale(self.query(tokens)))
        key = self._split_heads(self.key(tokens))
        value = self._split_heads(self.value(tokens))
        probabilities = self.attention_dropout(self.softmax(self.scores(query, key)))
        context = self._merge_heads(self.context(probabilities, value))
        return self.dropout(self.projection(context))

    def _split_heads(self, tokens):
        # Each group of tokens has heads of its own.
        shape = (-1, tokens.shape[1] // self.groups, self.groups * self.num_heads, self.dim // self.num_heads)
        return ops.transpose(ops.reshape(tokens, shape), (0, 2, 1, 3))

    def _merge_heads(self, heads):
        return ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (-1, heads.shape[2] * self.groups, self.dim))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "dim": self.dim,
            "num_heads": self.num_heads,
            "qkv_bias": self.qkv_bias,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "groups": self.groups,
        }
