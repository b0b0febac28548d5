"""Layers that divide a map into windows and put it together again (Liu et al., arXiv 2103.14030, section 3.2)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class WindowPartition(keras.layers.Layer):
    """Return the pixels of a map as tokens, window by window: the windows of the first column from the top, and so on.

    In this order, it is a single transpose of rank 4 that does not move the batch.

    Args:
        width: Width of a window, a divisor of the map's. Its height does not change the order.

    Input: (batch, map height, map width, channels). Output: (batch, map height * map width, channels).
    """

    moves_pixels = True

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def call(self, maps):
        _, height, width, channels = maps.shape
        if width > self.width:
            maps = ops.reshape(maps, (-1, height, width // self.width, self.width * channels))
            maps = ops.transpose(maps, (0, 2, 1, 3))
        return ops.reshape(maps, (-1, height * width, channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height * width, channels)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable("keras_vit")
class WindowReverse(keras.layers.Layer):
    """Return the tokens of `WindowPartition` as a map.

    Args:
        width: Width of a window.
        size: (height, width) of the map.

    Input: (batch, map height * map width, channels). Output: (batch, map height, map width, channels).
    """

    moves_pixels = True

    def __init__(self, width: int, size: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.size = tuple(size)

    def call(self, tokens):
        height, width = self.size
        channels = tokens.shape[-1]
        if width > self.width:
            tokens = ops.reshape(tokens, (-1, width // self.width, height, self.width * channels))
            tokens = ops.transpose(tokens, (0, 2, 1, 3))
        return ops.reshape(tokens, (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, input_shape[2])

    def get_config(self):
        return {**super().get_config(), "width": self.width, "size": self.size}
