"""Positions from sines and cosines with a learned projection (El-Nouby et al., arXiv 2106.09681, appendix A)."""

import math

import keras
import numpy as np
from keras import ops

from keras_vit.layers.position_embedding import PositionEmbedding

_FREQUENCIES = 32  # Sines and cosines of each axis, in all published models.
_TEMPERATURE = 10000.0


def fourier_features(grid: tuple[int, int]) -> np.ndarray:
    """Return sines and cosines of the row and the column of each patch.

    Rows and columns are counted from 1 and scaled so that the last one is 2 pi.

    Args:
        grid: Rows and columns of patches.

    Returns:
        An array (rows * columns, 64) in float32: for the row and then for the column, the sine and the cosine of each
        frequency side by side.
    """
    frequencies = _TEMPERATURE ** -(np.arange(0, _FREQUENCIES, 2) / _FREQUENCIES)
    features = []
    for at, count in zip(np.indices(grid), grid, strict=True):
        angles = (at.reshape(-1, 1) + 1) / (count + 1e-6) * 2 * math.pi * frequencies
        features += [np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(-1, _FREQUENCIES)]
    return np.concatenate(features, axis=1).astype("float32")


@keras.saving.register_keras_serializable("keras_vit")
class FourierPositions(keras.layers.Layer):
    """Add a learned projection of `fourier_features` to each token.

    For another image size, the layer computes the features again and keeps the projection.

    Args:
        grid: Rows and columns of patches.

    Input and output: (batch, rows * columns, width).

    Raises:
        ValueError: The input has another number of tokens.
    """

    def __init__(self, grid: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        rows, columns = grid
        self.grid = (rows, columns)

    def build(self, input_shape):
        rows, columns = self.grid
        if input_shape[1] != rows * columns:
            raise ValueError(
                f"FourierPositions of {rows} x {columns} patches expects (batch, {rows * columns}, width); "
                f"received the shape {tuple(input_shape)}."
            )
        width = input_shape[2]
        self.kernel = self.add_weight(name="kernel", shape=(2 * _FREQUENCIES, width), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(width,), initializer="zeros")

    def call(self, tokens):
        features = ops.convert_to_tensor(fourier_features(self.grid), self.kernel.dtype)
        return tokens + ops.cast(ops.matmul(features, self.kernel) + self.bias, tokens.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates for one image, see `keras_vit.count_macs`."""
        return math.prod(input_shape[1:]) * 2 * _FREQUENCIES

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}

    def config_at(self, input_shape: tuple, old_image: tuple[int, int], new_image: tuple[int, int]) -> dict:
        """Return the configuration for another image size, see `keras_vit.resize_model`."""
        return {**self.get_config(), "grid": resized_grid(self.grid, old_image, new_image)}

    def inference_form(self) -> tuple[type[keras.layers.Layer], dict, dict[str, np.ndarray]]:
        """Return the layer that adds the same as a table, see `keras_vit.fuse`."""
        kernel, bias = (ops.convert_to_numpy(weight) for weight in (self.kernel, self.bias))
        table = fourier_features(self.grid) @ kernel + bias
        return PositionEmbedding, {"grid": self.grid}, {"table": table[None]}


def resized_grid(grid: tuple[int, int], old_image: tuple[int, int], new_image: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of patches in an image of another size, both given as (height, width)."""
    rows, columns = (side * new // old for side, old, new in zip(grid, old_image, new_image, strict=True))
    return rows, columns
