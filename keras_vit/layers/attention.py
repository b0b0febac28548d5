"""Multi-head attention (Vaswani et al., arXiv 1706.03762, section 3.2; in ViT, arXiv 2010.11929, appendix A).

Locality self-attention is described by Lee et al., "Vision Transformer for Small-Size Datasets", arXiv 2112.13492,
section 3.3.
"""

import keras

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.composite import Composite
from keras_vit.layers.diagonal_mask import DiagonalMask
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.scale import HeadScale, Scale


@keras.saving.register_keras_serializable("keras_vit")
class MultiHeadAttention(Composite):
    """Compute softmax attention of each query token to all tokens, or to all tokens of its group.

    The batch is always the first axis and no tensor has more than four axes, as mobile delegates require. The softmax
    computes in float32 or higher precision.

    Args:
        width: Width of a token.
        num_heads: Number of heads, a divisor of `width`.
        qkv_bias: Whether the query, key and value projections have a bias.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        groups: Number of groups of tokens. Token i belongs to group i modulo `groups`, and attends only to its own
            group.
        locality: Whether each head learns the temperature of its softmax, which starts at sqrt(width / num_heads), and
            no token attends to itself. There must be as many queries as tokens.

    Inputs: queries (batch, queries, width) and tokens (batch, tokens, width), with fixed numbers of both.
    Output: (batch, queries, width).

    Raises:
        ValueError: The sizes do not fit each other.
    """

    product_class: type = MatMul  # Of the products of queries and keys, and of probabilities and values.

    def __init__(
        self,
        width: int,
        num_heads: int,
        qkv_bias: bool = True,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        groups: int = 1,
        locality: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if width % num_heads:
            raise ValueError(f"num_heads must divide width; received num_heads={num_heads} and width={width}.")
        self.width = width
        self.num_heads = num_heads
        self.qkv_bias = qkv_bias
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.groups = groups
        self.locality = locality

        dtype = self.dtype_policy
        full_precision = keras.backend.result_type(self.variable_dtype, "float32")
        factor = (width // num_heads) ** -0.5
        self.query = keras.layers.Dense(width, use_bias=qkv_bias, dtype=dtype, name="query")
        self.key = self._key_projection()
        self.value = keras.layers.Dense(width, use_bias=qkv_bias, dtype=dtype, name="value")
        if locality:
            self.scale = HeadScale(num_heads, factor, dtype=dtype, name="scale")
            self.mask = DiagonalMask(dtype=full_precision, name="mask")
        else:
            self.scale = Scale(factor, dtype=dtype, name="scale")
        self.scores = self.product_class(transpose_b=True, dtype=dtype, name="scores")
        self.softmax = self.make_softmax(dtype=full_precision, name="softmax")
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = self.product_class(dtype=dtype, name="context")
        self.projection = self._output_projection()
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def _key_projection(self) -> keras.layers.Layer:
        """Return the layer that computes the keys. Subclasses replace this to have another one."""
        return keras.layers.Dense(self.width, use_bias=self.qkv_bias, dtype=self.dtype_policy, name="key")

    def _output_projection(self) -> keras.layers.Layer:
        """Return the layer that the joined heads pass through. Subclasses replace this to have another one."""
        return keras.layers.Dense(self.width, dtype=self.dtype_policy, name="projection")

    def build(self, queries_shape, tokens_shape):
        for shape in (queries_shape, tokens_shape):
            if shape[1] is None or shape[2] != self.width:
                raise ValueError(
                    f"{type(self).__name__} expects (batch, tokens, {self.width}) with a fixed number of tokens; "
                    f"received the shape {tuple(shape)}."
                )
            if shape[1] % self.groups:
                raise ValueError(
                    f"The number of tokens must be a multiple of groups={self.groups}; received {shape[1]} tokens."
                )
        if self.locality and queries_shape[1] != tokens_shape[1]:
            raise ValueError(
                "With locality=True, each token is a query and does not attend to itself; "
                f"received {queries_shape[1]} queries and {tokens_shape[1]} tokens."
            )
        self.query.build(queries_shape)
        self.scale.build(queries_shape)
        self.key.build(tokens_shape)
        self.value.build(tokens_shape)
        self.projection.build(queries_shape)

    def call(self, queries, tokens):
        query = split_heads(self.scale(self.query(queries)), self.num_heads, self.groups)
        key = split_heads(self.key(tokens), self.num_heads, self.groups)
        value = split_heads(self.value(tokens), self.num_heads, self.groups)
        probabilities = self.attention_dropout(self.probabilities(self.scores(query, key)))
        context = merge_heads(self.context(probabilities, value), self.groups)
        return self.dropout(self.projection(context))

    def make_softmax(self, **kwargs) -> keras.layers.Layer:
        """Return the layer that computes the softmax; `kwargs` are passed to it. Subclasses may have another one."""
        return AttentionSoftmax(**kwargs)

    def probabilities(self, scores):
        """Return the weights of the values (batch, heads, queries, tokens) from the scores, of the same shape.

        Subclasses replace this to change the scores before the softmax, or the probabilities after it.
        """
        return self.softmax(self.mask(scores) if self.locality else scores)

    def compute_output_shape(self, queries_shape, tokens_shape):
        return tuple(queries_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "num_heads": self.num_heads,
            "qkv_bias": self.qkv_bias,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "groups": self.groups,
            "locality": self.locality,
        }


@keras.saving.register_keras_serializable("keras_vit")
class MultiHeadSelfAttention(MultiHeadAttention):
    """Compute softmax attention of each token to all tokens. Takes the arguments of `MultiHeadAttention`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def build(self, input_shape):
        super().build(input_shape, input_shape)

    def call(self, tokens):
        return super().call(tokens, tokens)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)
