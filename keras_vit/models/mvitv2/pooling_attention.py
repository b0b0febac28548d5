"""Pooling attention with a residual connection of the queries (Li et al., arXiv 2112.01526, section 3.1)."""

import keras
from keras import ops

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.composite import Composite
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.scale import Scale
from keras_vit.models.mvitv2.pooling import HeadwiseConv
from keras_vit.models.mvitv2.relative_scores import AddAxisScores, RelativeAxisScores

EPSILON = 1e-6  # Of every LayerNorm.


@keras.saving.register_keras_serializable("keras_vit")
class PooledHeads(Composite):
    """Pool queries, keys or values by a convolution that all heads share, then normalize each head.

    Args:
        num_heads: Number of heads.
        strides: Strides of the convolution.

    Input: (batch, height, width, channels).
    Output: (batch, ceil(height / strides), ceil(width / strides) * num_heads, channels / num_heads).
    """

    def __init__(self, num_heads: int, strides: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.strides = strides
        dtype = self.dtype_policy
        self.pad = keras.layers.ZeroPadding2D(1, dtype=dtype, name="pad")
        self.conv = HeadwiseConv(num_heads, strides, dtype=dtype, name="conv")
        self.norm = LayerNorm(EPSILON, dtype=dtype, name="norm")

    def build(self, input_shape):
        self.conv.build(self.pad.compute_output_shape(input_shape))
        self.norm.build(self.compute_output_shape(input_shape))

    def call(self, maps):
        maps = self.conv(self.pad(maps))
        _, height, width, channels = maps.shape
        heads = ops.reshape(maps, (-1, height, width * self.num_heads, channels // self.num_heads))
        return self.norm(heads)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        rows, columns = pooled((height, width), self.strides)
        return (batch, rows, columns * self.num_heads, channels // self.num_heads)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "strides": self.strides}


def pooled(size: tuple[int, int], strides: int) -> tuple[int, int]:
    """Return the (height, width) of a pooled map."""
    height, width = size
    return -(-height // strides), -(-width // strides)


@keras.saving.register_keras_serializable("keras_vit")
class PoolingAttention(Composite):
    """Compute softmax attention between pooled queries, keys and values of a map, and add the queries.

    The scores have an embedding of the relative row and one of the relative column. The batch is always the first axis
    and no tensor has more than four axes, as mobile delegates require. The softmax computes in float32 or higher
    precision.

    Args:
        channels: Channels of queries, keys, values and of the output.
        num_heads: Number of heads, a divisor of `channels`.
        size: (height, width) of the map.
        query_strides: Strides with which the queries are pooled.
        key_strides: Strides with which the keys and values are pooled.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input: (batch, height, width, input channels).
    Output: (batch, ceil(height / query_strides), ceil(width / query_strides), channels).

    Raises:
        ValueError: `num_heads` does not divide `channels`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        query_strides: int = 1,
        key_strides: int = 1,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels % num_heads:
            raise ValueError(f"num_heads must divide channels; received num_heads={num_heads}, channels={channels}.")
        self.settings = {
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "query_strides": query_strides,
            "key_strides": key_strides,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        self.channels = channels
        self.num_heads = num_heads
        self.query_size, self.key_size = pooled(size, query_strides), pooled(size, key_strides)
        dtype = self.dtype_policy
        full_precision = keras.backend.result_type(self.variable_dtype, "float32")
        self.query = keras.layers.Dense(channels, dtype=dtype, name="query")
        self.key = keras.layers.Dense(channels, dtype=dtype, name="key")
        self.value = keras.layers.Dense(channels, dtype=dtype, name="value")
        self.query_pool = PooledHeads(num_heads, query_strides, dtype=dtype, name="query_pool")
        self.key_pool = PooledHeads(num_heads, key_strides, dtype=dtype, name="key_pool")
        self.value_pool = PooledHeads(num_heads, key_strides, dtype=dtype, name="value_pool")
        # On the keys, since the queries are also used without it.
        self.scale = Scale((channels // num_heads) ** -0.5, dtype=dtype, name="scale")
        self.scores = MatMul(transpose_b=True, dtype=dtype, name="scores")
        (rows, columns), (key_rows, key_columns) = self.query_size, self.key_size
        self.row_scores = RelativeAxisScores(rows, key_rows, dtype=dtype, name="row_scores")
        self.column_scores = RelativeAxisScores(columns, key_columns, dtype=dtype, name="column_scores")
        self.add_scores = AddAxisScores(self.key_size, dtype=full_precision, name="add_scores")
        self.softmax = AttentionSoftmax(dtype=full_precision, name="softmax")
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = MatMul(dtype=dtype, name="context")
        self.add_query = keras.layers.Add(dtype=dtype, name="add_query")
        self.projection = keras.layers.Dense(channels, dtype=dtype, name="projection")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        if tuple(input_shape[1:3]) != self.settings["size"]:
            height, width = self.settings["size"]
            raise ValueError(
                f"PoolingAttention expects (batch, {height}, {width}, channels); "
                f"received the shape {tuple(input_shape)}."
            )
        maps = (*input_shape[:3], self.channels)
        for dense in (self.query, self.key, self.value):
            dense.build(input_shape)
        for pool in (self.query_pool, self.key_pool, self.value_pool):
            pool.build(maps)
        batch, (rows, columns), head_width = input_shape[0], self.query_size, self.channels // self.num_heads
        self.row_scores.build((batch, rows, columns * self.num_heads, head_width))
        self.column_scores.build((batch, columns, rows * self.num_heads, head_width))
        self.projection.build((batch, *self.query_size, self.channels))

    def call(self, inputs):
        query = self.query_pool(self.query(inputs))  # (batch, rows, columns * heads, head width)
        key = self._heads(self.scale(self.key_pool(self.key(inputs))), self.key_size)
        value = self._heads(self.value_pool(self.value(inputs)), self.key_size)
        by_head = self._heads(query, self.query_size)
        scores = self.add_scores(
            self.scores(by_head, key),
            self._heads(self.row_scores(query), self.query_size),
            self._heads(self._rows_first(self.column_scores(self._columns_first(query))), self.query_size),
        )
        probabilities = self.attention_dropout(self.softmax(scores))
        context = merge_heads(self.add_query([self.context(probabilities, value), by_head]))
        maps = ops.reshape(context, (-1, *self.query_size, self.channels))
        return self.dropout(self.projection(maps))

    def _heads(self, vectors, size):
        """Return vectors (batch, rows, columns * heads, length) as (batch, heads, rows * columns, length)."""
        rows, columns = size
        tokens = ops.reshape(vectors, (-1, rows * columns, self.num_heads * vectors.shape[-1]))
        return split_heads(tokens, self.num_heads)

    def _columns_first(self, vectors):
        """Return queries (batch, rows, columns * heads, length) as (batch, columns, rows * heads, length)."""
        rows, columns = self.query_size
        maps = ops.reshape(vectors, (-1, rows, columns, self.num_heads * vectors.shape[-1]))
        return ops.reshape(ops.transpose(maps, (0, 2, 1, 3)), (-1, columns, rows * self.num_heads, vectors.shape[-1]))

    def _rows_first(self, vectors):
        """Return queries (batch, columns, rows * heads, length) as (batch, rows, columns * heads, length)."""
        rows, columns = self.query_size
        maps = ops.reshape(vectors, (-1, columns, rows, self.num_heads * vectors.shape[-1]))
        return ops.reshape(ops.transpose(maps, (0, 2, 1, 3)), (-1, rows, columns * self.num_heads, vectors.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.query_size, self.channels)

    def get_config(self):
        return {**super().get_config(), **self.settings}
