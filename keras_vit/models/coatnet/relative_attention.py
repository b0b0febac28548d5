"""Self-attention with a learned bias by relative position (Dai et al., arXiv 2106.04803, section 2.1)."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.position_embedding import resize_positions


@keras.saving.register_keras_serializable("keras_vit")
class ScoreBias(keras.layers.Layer):
    """Add a learned number to each attention score. `keras_vit.fuse` makes it from a `MapPositionBias`.

    Input and output: (batch, heads, queries, tokens), with fixed numbers of queries and tokens.
    """

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=tuple(input_shape[1:]), initializer="zeros")

    def call(self, scores):
        return scores + ops.cast(self.bias, scores.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class MapPositionBias(keras.layers.Layer):
    """Add a learned bias to each attention score, by the difference in rows and columns of the two pixels.

    Args:
        size: (height, width) of the map.

    Input and output: (batch, heads, pixels, pixels), row by row.

    Raises:
        ValueError: The input has another number of pixels.
    """

    def __init__(self, size: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        height, width = size
        self.size = (height, width)

    def build(self, input_shape):
        height, width = self.size
        pixels = height * width
        if tuple(input_shape[2:]) != (pixels, pixels):
            raise ValueError(
                f"MapPositionBias of a map of {height} x {width} expects (batch, heads, {pixels}, {pixels}); "
                f"received the shape {tuple(input_shape)}."
            )
        self.table = self.add_weight(
            name="table",
            shape=((2 * height - 1) * (2 * width - 1), input_shape[1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )
        row, column = np.divmod(np.arange(pixels), width)
        down, right = (at[:, None] - at + side - 1 for at, side in ((row, height), (column, width)))
        self._index = (down * (2 * width - 1) + right).ravel()

    def call(self, scores):
        return scores + ops.cast(self._bias(), scores.dtype)

    def _bias(self):
        pixels = self.size[0] * self.size[1]
        bias = ops.take(self.table, self._index, axis=0)
        return ops.reshape(ops.transpose(bias), (-1, pixels, pixels))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "size": self.size}

    def inference_form(self) -> tuple[type[keras.layers.Layer], dict, dict[str, np.ndarray]]:
        """Return the class, the configuration and the weights of the layer that adds the bias as a constant."""
        return ScoreBias, {}, {"bias": ops.convert_to_numpy(self._bias())}

    def resized(self, table: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """Return this layer's table, computed from the table of another map by bilinear interpolation.

        Args:
            table: (relative positions, heads).
            size: (height, width) of the table's map, or None for a square map.

        Raises:
            ValueError: The table is not that of a square map.
        """
        if size is None:
            side = round(len(table) ** 0.5)
            if side**2 != len(table) or side % 2 == 0:
                raise ValueError(
                    f"a table of relative positions has {len(table)} rows, which is not the number of a square map: "
                    "(2 * side - 1) ** 2, such as 729 for 14"
                )
            size = ((side + 1) // 2, (side + 1) // 2)
        before, after = ((2 * height - 1, 2 * width - 1) for height, width in (size, self.size))
        return resize_positions(table[None], before, after, "half_pixel_linear")[0]

    def weights_from(self, old: "MapPositionBias") -> dict[str, np.ndarray]:
        """Return the weights of this layer, computed from the same layer at another image size."""
        return {"table": self.resized(ops.convert_to_numpy(old.table), old.size)}


@keras.saving.register_keras_serializable("keras_vit")
class RelativeSelfAttention(MultiHeadSelfAttention):
    """Compute self-attention between the pixels of a map, with a bias by relative position.

    Args:
        width: Width of an output token. That of an input token may be another.
        num_heads: Number of heads, a divisor of `width`.
        size: (height, width) of the map.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input: (batch, pixels, input width), row by row. Output: (batch, pixels, width).
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        size: tuple[int, int],
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(
            width, num_heads, dropout_rate=dropout_rate, attention_dropout_rate=attention_dropout_rate, **kwargs
        )
        self.size = tuple(size)
        self.bias = MapPositionBias(size, dtype=self.softmax.dtype_policy, name="bias")

    def build(self, input_shape):
        batch, pixels, _ = input_shape
        for dense in (self.query, self.key, self.value):
            dense.build(input_shape)
        self.projection.build((batch, pixels, self.width))
        self.bias.build((batch, self.num_heads, pixels, pixels))

    def probabilities(self, scores):
        return self.softmax(self.bias(scores))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "groups", "locality"):
            del config[name]
        return {**config, "size": self.size}
