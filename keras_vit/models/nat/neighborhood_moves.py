"""Layers that move the pixels of a map into blocks and back, for neighborhood attention.

They compute slices, concatenations, reshapes and transposes of rank 4 that do not move the batch.
"""

import keras
from keras import ops

from keras_vit.layers.concatenation import concatenate


@keras.saving.register_keras_serializable("keras_vit")
class NeighborhoodPartition(keras.layers.Layer):
    """Return the pixels of a map as tokens, block by block, where blocks may overlap.

    With a dilation, the map is first divided into classes of pixels: those in every `dilation`-th row and column. Each
    class is divided into blocks. The order of blocks is that of `Neighborhoods`.

    Args:
        dilation: Rows and columns between pixels of a class.
        grid: Number of blocks of a class from top to bottom and from left to right.
        step: Rows and columns from one block to the next.
        reach: (height, width) of a block in pixels, at least `step`.

    Input: (batch, map height, map width, channels), where a side is `dilation * ((grid - 1) * step + reach)`.
    Output: (batch, dilation ** 2 * blocks * pixels of a block, channels).
    """

    moves_pixels = True  # See `keras_vit.fuse`.

    def __init__(self, dilation: int, grid: tuple[int, int], step: tuple[int, int], reach: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.dilation = dilation
        self.grid = tuple(grid)
        self.step = tuple(step)
        self.reach = tuple(reach)

    def call(self, maps):
        _, height, width, channels = maps.shape
        dilation, (_, columns), (_, reach) = self.dilation, self.grid, self.reach
        if dilation > 1:  # (batch, class column, class row, height, width, channels) in the end.
            maps = ops.reshape(maps, (-1, height // dilation, dilation, width * channels))
            maps = ops.transpose(maps, (0, 2, 1, 3))
            maps = ops.reshape(maps, (-1, height * width // dilation, dilation, channels))
            maps = ops.transpose(maps, (0, 2, 1, 3))
        height, width, classes = height // dilation, width // dilation, dilation**2
        maps = _repeated(ops.reshape(maps, (-1, classes, height, width * channels)), 0, self)
        height = maps.shape[2]
        maps = _repeated(ops.reshape(maps, (-1, classes * height, width, channels)), 1, self)
        if columns > 1:
            maps = ops.reshape(maps, (-1, classes * height, columns, reach * channels))
            maps = ops.transpose(maps, (0, 2, 1, 3))
        return ops.reshape(maps, (-1, classes * height * columns * reach, channels))

    def compute_output_shape(self, input_shape):
        rows, columns = (count * side for count, side in zip(self.grid, self.reach, strict=True))
        return (input_shape[0], self.dilation**2 * rows * columns, input_shape[3])

    def get_config(self):
        config = {"dilation": self.dilation, "grid": self.grid, "step": self.step, "reach": self.reach}
        return {**super().get_config(), **config}


def _repeated(maps, axis, partition):
    """Return maps with the pixels of all blocks along the third axis, one block after the other."""
    step, reach = partition.step[axis], partition.reach[axis]
    if reach == step:
        return maps
    return concatenate([maps[:, :, start : start + reach] for start in starts(partition, axis)], axis=2)


def starts(partition: NeighborhoodPartition, axis: int) -> range:
    """Return where the blocks begin along an axis of a class."""
    step = partition.step[axis]
    return range(0, partition.grid[axis] * step, step)


@keras.saving.register_keras_serializable("keras_vit")
class NeighborhoodReverse(keras.layers.Layer):
    """Return the tokens of a `NeighborhoodPartition` whose blocks do not overlap as a map.

    Args:
        dilation: Rows and columns between pixels of a class.
        grid: Number of blocks of a class from top to bottom and from left to right.
        step: (height, width) of a block in pixels.

    Input: (batch, tokens, channels).
    Output: (batch, map height, map width, channels), where a side is `dilation * grid * step`.
    """

    moves_pixels = True

    def __init__(self, dilation: int, grid: tuple[int, int], step: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.dilation = dilation
        self.grid = tuple(grid)
        self.step = tuple(step)

    def call(self, tokens):
        channels, dilation, (_, columns) = tokens.shape[-1], self.dilation, self.grid
        _, height, width, _ = self.compute_output_shape(tokens.shape)
        if columns > 1:
            tokens = ops.reshape(tokens, (-1, columns, dilation * height, self.step[1] * channels))
            tokens = ops.transpose(tokens, (0, 2, 1, 3))
        if dilation > 1:
            tokens = ops.reshape(tokens, (-1, dilation, height * width // dilation, channels))
            tokens = ops.transpose(tokens, (0, 2, 1, 3))
            tokens = ops.reshape(tokens, (-1, dilation, height // dilation, width * channels))
            tokens = ops.transpose(tokens, (0, 2, 1, 3))
        return ops.reshape(tokens, (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        height, width = (self.dilation * count * side for count, side in zip(self.grid, self.step, strict=True))
        return (input_shape[0], height, width, input_shape[2])

    def get_config(self):
        return {**super().get_config(), "dilation": self.dilation, "grid": self.grid, "step": self.step}
