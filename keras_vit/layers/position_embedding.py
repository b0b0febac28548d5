"""Learned position embeddings and their resizing (Dosovitskiy et al., arXiv 2010.11929, sections 3.1 and 3.2)."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class PositionEmbedding(keras.layers.Layer):
    """Adds one learned vector to each token.

    Args:
        grid: Rows and columns of patches. Tokens beyond these, such as a class token, come first in the sequence.
        resizing: How the table is resized to another grid, see `resize_positions`.

    Input and output: (batch, tokens, dim); the number of tokens is fixed when the layer is built.
    """

    def __init__(self, grid: tuple[int, int], resizing: str = "linear", **kwargs):
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.resizing = resizing

    def build(self, input_shape):
        if None in input_shape[1:]:
            raise ValueError(
                "PositionEmbedding has one vector a token, so the number of tokens must be known; "
                f"received the shape {tuple(input_shape)}."
            )
        self.table = self.add_weight(
            name="table",
            shape=(1, *input_shape[1:]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, tokens):
        return tokens + ops.cast(self.table, tokens.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "resizing": self.resizing}

    def config_at(self, input_shape: tuple, old_image: tuple[int, int], new_image: tuple[int, int]) -> dict:
        """The configuration for another size of the image, see `keras_vit.rebuild`."""
        grid = [side * new // old for side, old, new in zip(self.grid, old_image, new_image, strict=True)]
        return {**self.get_config(), "grid": grid}

    def weights_from(self, old: "PositionEmbedding") -> dict[str, np.ndarray]:
        """The table of the same layer at another size of the image, resized to this one's."""
        return {"table": resize_positions(ops.convert_to_numpy(old.table), old.grid, self.grid, self.resizing)}


def _corner_aligned_linear(old: int, new: int) -> np.ndarray:
    at = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0.0)
    low = np.clip(np.floor(at).astype(int), 0, max(old - 2, 0))
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), low), 1 - (at - low))
    np.add.at(matrix, (np.arange(new), np.minimum(low + 1, old - 1)), at - low)
    return matrix


def _half_pixel_cubic(old: int, new: int, a: float = -0.75) -> np.ndarray:
    def kernel(x):
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    at = (np.arange(new) + 0.5) * old / new - 0.5
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        source = np.floor(at).astype(int) + tap
        np.add.at(matrix, (np.arange(new), np.clip(source, 0, old - 1)), kernel(at - source))
    return matrix


# How each family's authors resize a table, as a matrix (new, old) for one axis. Written out because no resize of
# Keras gives them: "linear" aligns the corners (scipy's zoom of order 1, in Google's code), "cubic" is PyTorch's
# (a = -0.75, no antialiasing), where TensorFlow has a = -0.5.
_METHODS = {"linear": _corner_aligned_linear, "cubic": _half_pixel_cubic}


def resize_positions(
    table: np.ndarray, old_grid: tuple[int, int], new_grid: tuple[int, int], method: str = "linear"
) -> np.ndarray:
    """Resizes a position table to another grid of patches.

    Args:
        table: (1, prefix + old rows * old columns, dim); the prefix rows (class token and the like) are kept.
        old_grid: Rows and columns the table was made for.
        new_grid: Rows and columns wanted.
        method: "linear" (ViT's authors) or "cubic" (DeiT's).

    Returns:
        (1, prefix + new rows * new columns, dim), in the table's dtype.
    """
    if method not in _METHODS:
        raise ValueError(f"method is one of {sorted(_METHODS)}; received {method!r}.")
    prefix = table.shape[1] - old_grid[0] * old_grid[1]
    if prefix < 0:
        raise ValueError(f"A table of {table.shape[1]} rows does not hold a grid of {old_grid[0]} x {old_grid[1]}.")
    if tuple(old_grid) == tuple(new_grid):
        return table
    patches = table[0, prefix:].reshape(*old_grid, -1).astype("float64")
    rows, columns = (_METHODS[method](old, new) for old, new in zip(old_grid, new_grid, strict=True))
    resized = np.einsum("Rr,Cc,rcd->RCd", rows, columns, patches).reshape(1, new_grid[0] * new_grid[1], -1)
    return np.concatenate([table[:, :prefix], resized.astype(table.dtype)], axis=1)
