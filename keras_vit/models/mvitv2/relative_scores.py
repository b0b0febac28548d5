"""Decomposed relative position embeddings (Li et al., arXiv 2112.01526, section 3.1, equation 3)."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.concatenation import concatenate
from keras_vit.layers.position_embedding import resize_positions


class _AxisScores(keras.layers.Layer):
    """Base class of a layer that multiplies queries by vectors of their relative position along one axis.

    Args:
        queries: Rows (or columns) of the queries' map.
        keys: Rows (or columns) of the keys' map.

    Input: (batch, queries, count, head width): queries with a row (or column) in the second axis.
    Output: (batch, queries, count, keys).

    Raises:
        ValueError: The input has another number of rows (or columns).
    """

    def __init__(self, queries: int, keys: int, **kwargs):
        super().__init__(**kwargs)
        self.queries = queries
        self.keys = keys

    def build(self, input_shape):
        if len(input_shape) != 4 or input_shape[1] != self.queries:
            raise ValueError(
                f"{type(self).__name__} expects (batch, {self.queries}, count, head width); "
                f"received the shape {tuple(input_shape)}."
            )

    def multiplied(self, queries, vectors):
        """Return queries times the vectors of each of their rows (queries, head width, keys)."""
        return ops.matmul(queries, ops.cast(vectors, queries.dtype))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.keys)

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates for one image, see `keras_vit.count_macs`."""
        return int(np.prod(input_shape[1:])) * self.keys

    def get_config(self):
        return {**super().get_config(), "queries": self.queries, "keys": self.keys}


@keras.saving.register_keras_serializable("keras_vit")
class AxisScores(_AxisScores):
    """Multiply queries by a vector for each key of an axis. `keras_vit.fuse` makes it from `RelativeAxisScores`.

    Args:
        queries: Rows (or columns) of the queries' map.
        keys: Rows (or columns) of the keys' map.

    Input: (batch, queries, count, head width). Output: (batch, queries, count, keys).
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.vectors = self.add_weight(
            name="vectors", shape=(self.queries, input_shape[-1], self.keys), initializer="zeros"
        )

    def call(self, queries):
        return self.multiplied(queries, self.vectors)

    def integer_call(self, queries):
        """Multiply row by row: integer operators multiply by a single constant matrix."""
        rows = [ops.matmul(queries[:, row : row + 1], self.vectors[row]) for row in range(self.queries)]
        return concatenate(rows, axis=1)


@keras.saving.register_keras_serializable("keras_vit")
class RelativeAxisScores(_AxisScores):
    """Multiply queries by the learned vector of each relative position along one axis.

    If one of the maps is larger, positions in the other one are scaled up.

    Args:
        queries: Rows (or columns) of the queries' map.
        keys: Rows (or columns) of the keys' map.

    Input: (batch, queries, count, head width). Output: (batch, queries, count, keys).
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.table = self.add_weight(
            name="table",
            shape=(2 * max(self.queries, self.keys) - 1, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    @property
    def relative_positions(self) -> np.ndarray:
        """The row of the table for each query and key (queries, keys)."""
        of_query = max(self.keys / self.queries, 1.0)
        of_key = max(self.queries / self.keys, 1.0)
        distances = np.arange(self.queries)[:, None] * of_query - np.arange(self.keys) * of_key
        return (distances + (self.keys - 1) * of_key).astype("int32")

    def call(self, queries):
        return self.multiplied(queries, self._vectors())

    def _vectors(self):
        rows = ops.take(self.table, self.relative_positions.ravel(), axis=0)
        return ops.transpose(ops.reshape(rows, (self.queries, self.keys, -1)), (0, 2, 1))

    def resized(self, table: np.ndarray) -> np.ndarray:
        """Return this layer's table, computed from that of other maps by linear interpolation.

        The authors do the same in their code for detection.

        Args:
            table: (relative positions, head width).
        """
        rows = 2 * max(self.queries, self.keys) - 1
        return resize_positions(table[None], (len(table), 1), (rows, 1), "half_pixel_linear")[0]

    def weights_from(self, old: "RelativeAxisScores") -> dict[str, np.ndarray]:
        """Return weights for this layer, computed from the same layer at another image size."""
        return {"table": self.resized(ops.convert_to_numpy(old.table))}

    def inference_form(self) -> tuple[type[keras.layers.Layer], dict, dict[str, np.ndarray]]:
        """Return the layer that has the vectors of all queries and keys as a constant, see `keras_vit.fuse`."""
        return AxisScores, self.get_config(), {"vectors": ops.convert_to_numpy(self._vectors())}


@keras.saving.register_keras_serializable("keras_vit")
class AddAxisScores(keras.layers.Layer):
    """Add the scores of the rows and of the columns to those of all queries and keys.

    Args:
        keys: (height, width) of the keys' map.

    Inputs: scores (batch, heads, queries, height * width), scores of rows (batch, heads, queries, height), and scores
    of columns (batch, heads, queries, width). Output: (batch, heads, queries, height * width).
    """

    def __init__(self, keys: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.keys = tuple(keys)

    def call(self, scores, rows, columns):
        _, heads, queries, pixels = scores.shape
        height, width = self.keys
        scores = ops.reshape(scores, (-1, heads * queries, height, width))
        scores = scores + ops.reshape(rows, (-1, heads * queries, height, 1))
        scores = scores + ops.reshape(columns, (-1, heads * queries, 1, width))
        return ops.reshape(scores, (-1, heads, queries, pixels))

    def compute_output_shape(self, scores_shape, rows_shape, columns_shape):
        return tuple(scores_shape)

    def get_config(self):
        return {**super().get_config(), "keys": self.keys}
