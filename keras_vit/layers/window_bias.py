"""Layers that add to the attention scores in windows: a bias by relative position, and the mask of shifted windows.

Relative position bias: Liu et al., arXiv 2103.14030, section 3.2. A map that is not divided is a single window, as in
CoAtNet (Dai et al., arXiv 2106.04803, section 2.1).
"""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.position_embedding import resize_positions
from keras_vit.layers.windows import Windows


class _WindowBias(keras.layers.Layer):
    """Base class of a layer that adds a bias to scores: the same in all windows, plus the mask of a shifted map.

    Args:
        num_heads: Number of heads.
        windows: The attributes of `Windows`, as a dictionary.

    Input and output: (batch, heads * windows, pixels of a window, pixels of a window); all windows of the first head
    come first.

    Raises:
        ValueError: The input has another number of heads, windows or pixels.
    """

    def __init__(self, num_heads: int, windows: dict, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.windows = Windows(**{name: _as_tuple(value) for name, value in windows.items()})

    def build(self, input_shape):
        expected = (self.num_heads * self.windows.count, self.windows.area, self.windows.area)
        if tuple(input_shape[1:]) != expected:
            raise ValueError(
                f"{type(self).__name__} with {self.num_heads} heads and {self.windows.count} windows of "
                f"{self.windows.area} pixels expects (batch, {', '.join(map(str, expected))}); received the shape "
                f"{tuple(input_shape)}."
            )

    def on_map(self, attention: np.ndarray) -> np.ndarray:
        """Return attention probabilities of windows as those of the map's pixels, see `Windows.on_map`."""
        return self.windows.on_map(attention)

    def add_bias(self, scores, bias):
        """Add a bias (heads, windows or 1, pixels * pixels) to the scores."""
        area, count = self.windows.area, self.windows.count
        bias = ops.cast(bias, scores.dtype)
        if bias.shape[1] == count:
            return scores + ops.reshape(bias, (self.num_heads * count, area, area))
        # The bias is the same in all windows, which have an axis of their own here.
        shaped = ops.reshape(scores, (-1, self.num_heads, count, area * area)) + bias
        return ops.reshape(shaped, (-1, self.num_heads * count, area, area))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        windows = self.windows
        attributes = {"size": windows.size, "window": windows.window, "shift": windows.shift}
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "windows": {**attributes, "pad_first": windows.pad_first},
        }


class BiasFromTable(_WindowBias):
    """Base class of a layer whose bias has a table with a row for each relative position."""

    def table_of_heads(self):
        """Return the table (relative positions, heads)."""
        raise NotImplementedError

    def call(self, scores):
        return self.add_bias(scores, self._bias(self.table_of_heads()))

    def _bias(self, table):
        windows = self.windows
        bias = ops.take(table, windows.relative_positions.ravel(), axis=0)
        bias = ops.reshape(ops.transpose(bias), (self.num_heads, 1, windows.area**2))
        if windows.mask is None:
            return bias
        return bias + ops.convert_to_tensor(windows.mask.reshape(1, windows.count, windows.area**2), bias.dtype)

    def inference_form(self) -> tuple[type, dict, dict[str, np.ndarray]]:
        """Return the class, the configuration and the weights of the layer that adds the bias as a constant."""
        config = {**_WindowBias.get_config(self), "per_window": self.windows.mask is not None}
        return WindowBias, config, {"bias": ops.convert_to_numpy(self._bias(self.table_of_heads()))}


@keras.saving.register_keras_serializable("keras_vit")
class WindowBias(_WindowBias):
    """Add a bias to the scores of each window. `keras_vit.fuse` makes it from a bias by relative position and the mask.

    Args:
        num_heads: Number of heads.
        windows: The attributes of `Windows`, as a dictionary.
        per_window: Whether each window has a bias of its own.

    Input and output: (batch, heads * windows, pixels of a window, pixels of a window).
    """

    def __init__(self, num_heads: int, windows: dict, per_window: bool, **kwargs):
        super().__init__(num_heads, windows, **kwargs)
        self.per_window = per_window

    def build(self, input_shape):
        super().build(input_shape)
        shape = (self.num_heads, self.windows.count if self.per_window else 1, self.windows.area**2)
        self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros")

    def call(self, scores):
        return self.add_bias(scores, self.bias)

    def get_config(self):
        return {**super().get_config(), "per_window": self.per_window}


@keras.saving.register_keras_serializable("keras_vit")
class RelativePositionBias(BiasFromTable):
    """Add a learned bias by the relative position of the two pixels, and the mask of a shifted map.

    Args:
        num_heads: Number of heads.
        windows: The attributes of `Windows`, as a dictionary.
        interpolation: How to resize the table of another window: a method of `resize_positions`.

    Input and output: (batch, heads * windows, pixels of a window, pixels of a window).
    """

    def __init__(self, num_heads: int, windows: dict, interpolation: str = "cubic", **kwargs):
        super().__init__(num_heads, windows, **kwargs)
        self.interpolation = interpolation

    def build(self, input_shape):
        super().build(input_shape)
        height, width = self.windows.window
        self.table = self.add_weight(
            name="table",
            shape=((2 * height - 1) * (2 * width - 1), self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def table_of_heads(self):
        return self.table

    def resized(self, table: np.ndarray, window: tuple[int, int] | None = None) -> np.ndarray:
        """Return this layer's table, computed from the table of another window by interpolation.

        Swin's authors do the same when they load a checkpoint, and timm does it for CoAtNet.

        Args:
            table: (relative positions, heads).
            window: (height, width) of the table's window, or None for a square window.

        Raises:
            ValueError: The table is not that of a square window.
        """
        if window is None:
            side = round(len(table) ** 0.5)
            if side**2 != len(table) or side % 2 == 0:
                raise ValueError(
                    f"a table of relative positions has {len(table)} rows, which is not the number of a square window: "
                    "(2 * window - 1) ** 2, such as 169 for 7 or 529 for 12"
                )
            window = ((side + 1) // 2,) * 2
        before, after = ((2 * height - 1, 2 * width - 1) for height, width in (window, self.windows.window))
        return resize_positions(table[None], before, after, self.interpolation)[0]

    def weights_from(self, old: "RelativePositionBias") -> dict[str, np.ndarray]:
        """Return weights for this layer, computed from the same layer with a different window."""
        return {"table": self.resized(ops.convert_to_numpy(old.table), old.windows.window)}

    def get_config(self):
        return {**super().get_config(), "interpolation": self.interpolation}


def _as_tuple(value):
    return tuple(value) if isinstance(value, (list, tuple)) else value
