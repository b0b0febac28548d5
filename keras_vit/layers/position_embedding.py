"""Position embeddings and their resizing (Dosovitskiy et al., arXiv 2010.11929, sections 3.1 and 3.2)."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class PositionEmbedding(keras.layers.Layer):
    """Add a vector for its position to each token.

    Args:
        grid: Rows and columns of patches. Further tokens, such as a class token, come first in the sequence.
        kind: "learned", or the name of a fixed table, see `sincos_positions`: "sincos2d" or "sincos2d_mae". Fixed
            tables are zero for tokens that are not patches.
        resizing: Method that resizes a learned table of another grid, see `resize_positions`.

    Input and output: (batch, tokens, width) with a fixed number of tokens, rows * columns or more.

    Raises:
        ValueError: `kind` or `resizing` has no such value, or there are fewer tokens than patches.
    """

    def __init__(self, grid: tuple[int, int], kind: str = "learned", resizing: str = "linear", **kwargs):
        super().__init__(**kwargs)
        if kind != "learned" and kind not in _FREQUENCIES:
            raise ValueError(f"kind must be one of {('learned', *_FREQUENCIES)}; received kind={kind!r}.")
        if resizing not in _METHODS:
            raise ValueError(f"resizing must be one of {sorted(_METHODS)}; received resizing={resizing!r}.")
        rows, columns = grid
        self.grid = (rows, columns)
        self.kind = kind
        self.resizing = resizing

    def build(self, input_shape):
        tokens, width = input_shape[1:]
        rows, columns = self.grid
        if tokens is None or tokens < rows * columns:
            raise ValueError(
                f"PositionEmbedding expects a fixed number of tokens, {rows * columns} or more for its grid; "
                f"received the shape {tuple(input_shape)}."
            )
        self.prefix = tokens - rows * columns
        initial = self._initial_table(tokens, width)
        self.table = self.add_weight(
            name="table",
            shape=(1, tokens, width),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02)
            if initial is None
            else lambda shape, dtype=None: ops.convert_to_tensor(initial, dtype),
            trainable=initial is None,
        )

    def call(self, tokens, grid=None):
        """Add the positions.

        Args:
            tokens: (batch, tokens, width).
            grid: Rows and columns of the patches in `tokens`, if they are not those of the table. The table is then
                resized in the graph, as in multi-crop training (Caron et al., arXiv 2104.14294).
        """
        table = self.table if grid is None or tuple(grid) == self.grid else self._at(tuple(grid))
        return tokens + ops.cast(table, tokens.dtype)

    def _at(self, grid):
        """Return the table for another grid as a tensor; gradients reach the layer's own table."""
        width = self.table.shape[2]
        if self.kind != "learned":
            return self._fixed(grid, width)
        table = ops.convert_to_tensor(self.table)
        rows, columns = (
            ops.convert_to_tensor(_METHODS[self.resizing](old, new), table.dtype)
            for old, new in zip(self.grid, grid, strict=True)
        )
        patches = ops.reshape(table[0, self.prefix :], (self.grid[0], self.grid[1] * width))
        patches = ops.reshape(ops.matmul(rows, patches), (grid[0], self.grid[1], width))
        patches = ops.reshape(ops.matmul(columns, patches), (1, grid[0] * grid[1], width))
        return ops.concatenate([table[:, : self.prefix], patches], axis=1)

    def _initial_table(self, tokens: int, width: int) -> np.ndarray | None:
        """Return the table (1, tokens, width) of fixed positions, or None if they are learned."""
        return None if self.kind == "learned" else self._fixed(self.grid, width)

    def resized(self, table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Return this layer's table, computed from the table of another grid.

        Raises:
            ValueError: This layer's table is fixed, and the other one is not the same function of the position.
        """
        if self.kind == "learned":
            return resize_positions(table, grid, self.grid, self.resizing)
        if not np.allclose(table, self._fixed(grid, table.shape[2]), atol=1e-3):
            raise ValueError(
                f"the positions are not the fixed ones of {self.kind!r} that this model has; build it with "
                "position_embedding='learned'"
            )
        return self._fixed(self.grid, table.shape[2])

    def _fixed(self, grid, width):
        return np.pad(sincos_positions(grid, width, self.kind), ((0, 0), (self.prefix, 0), (0, 0)))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "kind": self.kind, "resizing": self.resizing}

    def config_at(self, input_shape: tuple, old_image: tuple[int, int], new_image: tuple[int, int]) -> dict:
        """Return the configuration for another image size, see `keras_vit.resize_model`."""
        grid = [side * new // old for side, old, new in zip(self.grid, old_image, new_image, strict=True)]
        return {**self.get_config(), "grid": grid}

    def weights_from(self, old: "PositionEmbedding") -> dict[str, np.ndarray]:
        """Return the weights of this layer, computed from the same layer at another image size."""
        return {"table": self.resized(ops.convert_to_numpy(old.table), old.grid)}


# The steps between the frequencies 1 and 1 / 10000, where `count` is a quarter of the width. big_vision ends at
# 1 / 10000 itself; MAE's last is one step before it.
_FREQUENCIES = {"sincos2d": lambda count: count - 1, "sincos2d_mae": lambda count: count}


def sincos_positions(grid: tuple[int, int], width: int, kind: str = "sincos2d") -> np.ndarray:
    """Return a fixed table of sines and cosines of the column and the row (Chen et al., arXiv 2104.02057, section 4.3).

    Args:
        grid: Rows and columns of patches.
        width: Width of a token, a multiple of 4 and 8 or more.
        kind: "sincos2d" as in Beyer et al., arXiv 2205.01580, or "sincos2d_mae" as in He et al., arXiv 2111.06377. They
            differ only in the frequencies.

    Returns:
        An array (1, rows * columns, width) in float32: sines and cosines of the column, then of the row.

    Raises:
        ValueError: `width` has another value.
    """
    if width % 4 or width < 8:
        raise ValueError(f"width must be a multiple of 4 and 8 or more for fixed positions; received width={width}.")
    count = width // 4
    frequencies = 10000.0 ** -(np.arange(count) / _FREQUENCIES[kind](count))
    row, column = np.indices(grid).reshape(2, -1, 1) * frequencies
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], axis=1)[None].astype("float32")


def _corner_aligned_linear(old: int, new: int) -> np.ndarray:
    at = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
    low = np.clip(np.floor(at).astype(int), 0, max(old - 2, 0))
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), low), 1 - (at - low))
    np.add.at(matrix, (np.arange(new), np.minimum(low + 1, old - 1)), at - low)
    return matrix


def _half_pixel_linear(old: int, new: int) -> np.ndarray:
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(np.floor(at).astype(int), max(old - 2, 0))
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), low), 1 - (at - low))
    np.add.at(matrix, (np.arange(new), np.minimum(low + 1, old - 1)), at - low)
    return matrix


def _cubic_kernel(x: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _half_pixel_cubic(old: int, new: int, offset: float = 0.0) -> np.ndarray:
    at = (np.arange(new) + 0.5) * old / (new + offset) - 0.5
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        source = np.floor(at).astype(int) + tap
        np.add.at(matrix, (np.arange(new), np.clip(source, 0, old - 1)), _cubic_kernel(at - source, a=-0.75))
    return matrix


def _cubic_with_offset(old: int, new: int) -> np.ndarray:
    return _half_pixel_cubic(old, new, offset=0.1)


def _antialiased_cubic(old: int, new: int) -> np.ndarray:
    scale = old / new
    distances = np.arange(old) + 0.5 - scale * (np.arange(new)[:, None] + 0.5)
    matrix = _cubic_kernel(distances / max(scale, 1.0), a=-0.5)
    return matrix / matrix.sum(axis=1, keepdims=True)


# How the authors of each family resize a table, as a matrix (new, old) for one axis. No function of Keras computes
# these: "linear" aligns the corners (scipy's zoom of order 1, in Google's code), and "cubic" is PyTorch's (a = -0.75,
# no antialiasing), where TensorFlow has a = -0.5. "half_pixel_linear" is TensorFlow's bilinear resizing of images.
# "cubic_offset" takes the scale new / old from a side of new + 0.1 patches, and "cubic_antialiased" is PyTorch's with
# antialiasing (a = -0.5).
_METHODS = {
    "linear": _corner_aligned_linear,
    "half_pixel_linear": _half_pixel_linear,
    "cubic": _half_pixel_cubic,
    "cubic_offset": _cubic_with_offset,
    "cubic_antialiased": _antialiased_cubic,
}


def resize_positions(
    table: np.ndarray, old_grid: tuple[int, int], new_grid: tuple[int, int], method: str = "linear"
) -> np.ndarray:
    """Resize a position table to another grid of patches.

    Args:
        table: Array (1, prefix + old rows * old columns, width). The prefix, for class tokens and the like, is kept.
        old_grid: Rows and columns of the table.
        new_grid: Rows and columns to resize it to.
        method: "linear", as ViT's authors do; "cubic", as DeiT's do; "half_pixel_linear", as those of MaxViT and
            CoAtNet do; "cubic_offset", as those of DINO and DINOv2 do; or "cubic_antialiased", as those of DINOv2 with
            registers do.

    Returns:
        An array (1, prefix + new rows * new columns, width) in the table's dtype.

    Raises:
        ValueError: There is no such method, or the table is smaller than the grid.
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {sorted(_METHODS)}; received method={method!r}.")
    prefix = table.shape[1] - old_grid[0] * old_grid[1]
    if prefix < 0:
        raise ValueError(f"A table of {table.shape[1]} rows is too small for a grid of {old_grid[0]} x {old_grid[1]}.")
    if tuple(old_grid) == tuple(new_grid):
        return table
    patches = table[0, prefix:].reshape(*old_grid, -1).astype("float64")
    rows, columns = (_METHODS[method](old, new) for old, new in zip(old_grid, new_grid, strict=True))
    resized = np.einsum("Rr,Cc,rcd->RCd", rows, columns, patches).reshape(1, new_grid[0] * new_grid[1], -1)
    return np.concatenate([table[:, :prefix], resized.astype(table.dtype)], axis=1)
