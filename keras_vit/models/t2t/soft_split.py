"""The soft split: patches that overlap become tokens (Yuan et al., arXiv 2101.11986, section 3.1)."""

import math

import keras
from keras import ops

from keras_vit.layers.concatenation import concatenate


@keras.saving.register_keras_serializable("keras_vit")
class SoftSplit(keras.layers.Layer):
    """Join the pixels of patches that overlap to tokens, in the order of rows, columns and channels.

    It computes slices and concatenations of whole rows and columns, which every device has. The map must be padded so
    that its sides are multiples of the strides, and long enough for patches of a multiple of the strides.

    Args:
        kernel_size: Side of a patch in pixels.
        strides: Pixels from one patch to the next.

    Input: (batch, height, width, channels).
    Output: (batch, rows, columns, kernel_size ** 2 * channels), where height is
    `(rows - 1 + ceil(kernel_size / strides)) * strides`, and so is width.

    Raises:
        ValueError: The map has another size.
    """

    moves_pixels = True  # See `keras_vit.fuse`.

    def __init__(self, kernel_size: int, strides: int, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = kernel_size
        self.strides = strides
        self._span = math.ceil(kernel_size / strides)  # Groups of `strides` pixels that a patch touches.

    def build(self, input_shape):
        if any(side % self.strides or side < self._span * self.strides for side in input_shape[1:3]):
            raise ValueError(
                f"SoftSplit expects a map whose sides are multiples of strides={self.strides} and at least "
                f"{self._span * self.strides}; received the shape {tuple(input_shape)}."
            )

    def call(self, maps):
        _, height, width, channels = maps.shape
        _, rows, columns, _ = self.compute_output_shape(maps.shape)
        step, side = self.strides, self.kernel_size
        groups = ops.reshape(maps, (-1, height, width // step, step * channels))
        parts = []
        for start in range(self._span):
            count = min(step, side - start * step)  # Columns of this group that are in the patch.
            parts.append(groups[:, :, start : start + columns, : count * channels])
        joined = ops.concatenate(parts, axis=3)  # (batch, height, columns, side * channels)
        groups = ops.reshape(joined, (-1, height // step, step, columns * side * channels))
        parts = []
        for row in range(side):
            start, within = divmod(row, step)
            part = groups[:, start : start + rows, within : within + 1]
            parts.append(ops.reshape(part, (-1, rows, columns, side * channels)))
        return concatenate(parts, axis=3)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        rows, columns = (side // self.strides - self._span + 1 for side in (height, width))
        return (batch, rows, columns, self.kernel_size**2 * channels)

    def get_config(self):
        return {**super().get_config(), "kernel_size": self.kernel_size, "strides": self.strides}
