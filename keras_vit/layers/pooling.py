"""Pooling of a sequence of tokens to one vector per image, and of a map to a map of fixed size."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class TokenPooling(keras.layers.Layer):
    """Return one token of a sequence.

    It computes a slice that keeps the axis and then a reshape, since a slice that drops an axis splits the graph on a
    device.

    Args:
        index: Index of the token, counted from 0.

    Input: (batch, tokens, width). Output: (batch, width).
    """

    def __init__(self, index: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.index = index

    def call(self, tokens):
        return ops.reshape(tokens[:, self.index : self.index + 1], (-1, tokens.shape[-1]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def get_config(self):
        return {**super().get_config(), "index": self.index}


@keras.saving.register_keras_serializable("keras_vit")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Average a map over windows whose number is fixed, as `torch.nn.AdaptiveAvgPool2d` does.

    Where the windows do not divide the map, they overlap by a row or column.

    Args:
        side: Number of windows from top to bottom, and from left to right.

    Input: (batch, height, width, channels). Output: (batch, side, side, channels).
    """

    def __init__(self, side: int, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def call(self, maps):
        _, height, width, channels = maps.shape
        if height % self.side == 0 and width % self.side == 0:
            window = (height // self.side, width // self.side)
            return maps if window == (1, 1) else ops.average_pool(maps, window, window)
        rows, columns = (ops.convert_to_tensor(self.window_means(size), maps.dtype) for size in (height, width))
        maps = ops.matmul(rows, ops.reshape(maps, (-1, height, width * channels)))
        return ops.matmul(columns, ops.reshape(maps, (-1, self.side, width, channels)))

    def window_means(self, size: int) -> np.ndarray:
        """Return the matrix (windows, size) that averages an axis of this size over its windows."""
        matrix = np.zeros((self.side, size), "float32")
        for window in range(self.side):
            first, last = window * size // self.side, -(-(window + 1) * size // self.side)
            matrix[window, first:last] = 1 / (last - first)
        return matrix

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.side, self.side, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "side": self.side}
