"""Layers that add to the scores of neighborhood attention: a bias by relative position, and the mask of neighborhoods.

Relative position bias: Hassani et al., arXiv 2204.07143, equation 1.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit.layers.position_embedding import resize_positions
from keras_vit.models.nat.neighborhoods import Neighborhoods


class _Bias(keras.layers.Layer):
    """Base class of a layer that adds a bias to the scores of all blocks, and masks what is outside the neighborhoods.

    Args:
        num_heads: Number of heads.
        neighborhoods: The attributes of `Neighborhoods`, as a dictionary.

    Input and output: (batch, heads * blocks, queries of a block, keys of a block); all blocks of the first head come
    first.

    Raises:
        ValueError: The input has another number of heads, blocks, queries or keys.
    """

    def __init__(self, num_heads: int, neighborhoods: dict, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in neighborhoods.items()
        }
        self.neighborhoods = Neighborhoods(**values)

    def build(self, input_shape):
        expected = (self.num_heads * self.neighborhoods.count, *self._areas())
        if tuple(input_shape[1:]) != expected:
            raise ValueError(
                f"{type(self).__name__} with {self.num_heads} heads and {self.neighborhoods.count} blocks expects "
                f"(batch, {', '.join(map(str, expected))}); received the shape {tuple(input_shape)}."
            )

    def _areas(self):
        return tuple(int(np.prod(sides)) for sides in (self.neighborhoods.block, self.neighborhoods.reach))

    def on_map(self, attention: np.ndarray) -> np.ndarray:
        """Return attention probabilities of blocks as those of the map's pixels, see `Neighborhoods.on_map`."""
        return self.neighborhoods.on_map(attention)

    def add(self, scores, bias):
        """Add a bias (heads, 1, queries * keys) to the scores, and the mask if each block has its own."""
        queries, keys = self._areas()
        count = self.neighborhoods.count
        # The bias is the same in all blocks, and the mask in all heads, so both need an axis of their own.
        scores = ops.reshape(scores, (-1, self.num_heads, count, queries * keys)) + ops.cast(bias, scores.dtype)
        mask = self.neighborhoods.mask
        if mask is not None and len(mask) > 1:
            scores = scores + ops.convert_to_tensor(mask, scores.dtype)
        return ops.reshape(scores, (-1, self.num_heads * count, queries, keys))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        known = self.neighborhoods
        attributes = {
            "size": known.size,
            "kernel_size": known.kernel_size,
            "dilation": known.dilation,
            "block": known.block,
        }
        return {**super().get_config(), "num_heads": self.num_heads, "neighborhoods": attributes}


@keras.saving.register_keras_serializable("keras_vit")
class NeighborhoodBias(_Bias):
    """Add a bias to the scores of each head. `keras_vit.fuse` makes it from a `RelativeNeighborhoodBias`.

    Args:
        num_heads: Number of heads.
        neighborhoods: The attributes of `Neighborhoods`, as a dictionary.

    Input and output: (batch, heads * blocks, queries of a block, keys of a block).
    """

    def build(self, input_shape):
        super().build(input_shape)
        queries, keys = self._areas()
        self.bias = self.add_weight(name="bias", shape=(self.num_heads, 1, queries * keys), initializer="zeros")

    def call(self, scores):
        return self.add(scores, self.bias)


@keras.saving.register_keras_serializable("keras_vit")
class RelativeNeighborhoodBias(_Bias):
    """Add a learned bias by the relative position of the two pixels, and mask what is outside the neighborhoods.

    Args:
        num_heads: Number of heads.
        neighborhoods: The attributes of `Neighborhoods`, as a dictionary.

    Input and output: (batch, heads * blocks, queries of a block, keys of a block).
    """

    def build(self, input_shape):
        super().build(input_shape)
        side = 2 * self.neighborhoods.kernel_size - 1
        self.table = self.add_weight(
            name="table",
            shape=(side**2, self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, scores):
        return self.add(scores, self._bias())

    def _bias(self):
        """Return the bias (heads, 1, queries * keys), with the mask if it is the same in all blocks."""
        bias = ops.transpose(ops.take(self.table, self.neighborhoods.relative_positions, axis=0))[:, None]
        mask = self.neighborhoods.mask
        return bias if mask is None or len(mask) > 1 else bias + ops.convert_to_tensor(mask, bias.dtype)

    def resized(self, table: np.ndarray) -> np.ndarray:
        """Return this layer's table, computed from that of another kernel size by bicubic interpolation.

        The authors do the same for kernels of 11 x 11 (arXiv 2209.15001, section 4.1).

        Args:
            table: (relative positions, heads).

        Raises:
            ValueError: The table is not that of a square neighborhood.
        """
        before, after = math.isqrt(len(table)), 2 * self.neighborhoods.kernel_size - 1
        if before**2 != len(table) or before % 2 == 0:
            raise ValueError(
                f"a table of relative positions has {len(table)} rows, which is not the number of a square "
                "neighborhood: (2 * kernel_size - 1) ** 2, such as 169 for 7 or 441 for 11"
            )
        return resize_positions(table[None], (before, before), (after, after), "cubic")[0]

    def inference_form(self) -> tuple[type, dict, dict[str, np.ndarray]]:
        """Return the class, the configuration and the weights of the layer that adds the bias as a constant."""
        return NeighborhoodBias, self.get_config(), {"bias": ops.convert_to_numpy(self._bias())}
