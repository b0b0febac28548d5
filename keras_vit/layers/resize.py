"""Bilinear resizing of feature maps in PyTorch's two conventions."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class Resize(keras.layers.Layer):
    """Resize feature maps bilinearly, with aligned corners of the outermost pixels (align_corners=False in PyTorch).

    A map that already has the size is returned unchanged.

    Args:
        height: Height of the output.
        width: Width of the output.

    Input: (batch, any height, any width, channels). Output: (batch, height, width, channels).
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def call(self, maps):
        size = (self.height, self.width)
        if tuple(maps.shape[1:3]) == size:
            return maps
        resized = ops.image.resize(maps, size, interpolation="bilinear", data_format="channels_last")
        return ops.cast(resized, maps.dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}


@keras.saving.register_keras_serializable("keras_vit")
class ResizeToEven(keras.layers.Layer):
    """Resize odd sides bilinearly to one pixel more, with aligned centers of the outermost pixels (align_corners=True).

    From n to n + 1 pixels, pixel i of the output lies i / n of the way from pixel i to pixel i - 1 of the input. So the
    output is a weighted sum of the map and the map shifted by one pixel. An even side is not changed.

    Input: (batch, height, width, channels). Output: (batch, next even height, next even width, channels).
    """

    def call(self, maps):
        for axis in (1, 2):
            size = maps.shape[axis]
            if size % 2:
                shape = [size + 1 if a == axis else 1 for a in range(4)]
                moved = ops.reshape(ops.arange(size + 1, dtype="float32") / size, shape)
                moved = ops.cast(moved, maps.dtype)
                after, before = ([pad if a == axis else (0, 0) for a in range(4)] for pad in ((0, 1), (1, 0)))
                maps = ops.pad(maps, after) * (1 - moved) + ops.pad(maps, before) * moved
        return maps

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, next_even(height), next_even(width), channels)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


def next_even(size: int) -> int:
    """Return the smallest even number that is not below `size`."""
    return size + size % 2
