"""Which pixels attend to which in neighborhood attention. This module does not use Keras.

Neighborhoods: Hassani et al., arXiv 2204.07143, section 3.1. Dilation: Hassani and Shi, arXiv 2209.15001, section 3.1.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np

# Added to the score of a pixel outside the neighborhood. A power of two that float16 can represent; scores are much
# smaller, so that the softmax gives exactly 0.
_OUTSIDE = -(2.0**15)


@dataclass(frozen=True)
class _Axis:
    """The neighborhoods along one axis of a map.

    With a dilation, the pixels whose positions differ by multiples of it form a class. Each class is divided into
    blocks of queries. The queries of a block share their keys: the pixels of the block, and `before` and `after` it as
    many as any neighborhood reaches.
    """

    side: int
    kernel_size: int
    dilation: int
    block: int

    @property
    def blocks(self) -> int:
        """Number of blocks of a class. Together they have as many pixels as the longest class, or more."""
        return math.ceil(math.ceil(self.side / self.dilation) / self.block)

    @functools.cached_property
    def _class_sides(self):
        """Number of pixels of each class (classes, 1)."""
        return (self.side - np.arange(self.dilation)[:, None] + self.dilation - 1) // self.dilation

    @functools.cached_property
    def _queries(self):
        """Positions of the queries in their class (blocks * block,)."""
        return np.arange(self.blocks * self.block)

    @functools.cached_property
    def _first(self):
        """The first key of each query (classes, queries): half a kernel before it, shifted to be inside the class."""
        return np.clip(self._queries - self.kernel_size // 2, 0, self._class_sides - self.kernel_size)

    @functools.cached_property
    def _are_pixels(self):
        """Whether each query is a pixel of the map (classes, queries), and not padding."""
        return self._queries < self._class_sides

    @functools.cached_property
    def before(self) -> int:
        """Number of keys before the first pixel of a block."""
        if self.blocks == 1:
            return 0
        return int(np.max((self._queries // self.block * self.block - self._first)[self._are_pixels]))

    @functools.cached_property
    def after(self) -> int:
        """Number of keys after the last pixel of a block."""
        if self.blocks == 1:
            return 0
        ends = (self._queries // self.block + 1) * self.block
        return int(np.max((self._first + self.kernel_size - ends)[self._are_pixels]))

    @property
    def reach(self) -> int:
        """Number of keys of a block."""
        return self.before + self.block + self.after

    @property
    def query_padding(self) -> tuple[int, int]:
        """Pixels of padding before and after the map, as queries."""
        return 0, self.dilation * self.blocks * self.block - self.side

    @property
    def key_padding(self) -> tuple[int, int]:
        """Pixels of padding before and after the map, as keys."""
        _, below = self.query_padding
        return self.dilation * self.before, below + self.dilation * self.after

    @property
    def distances(self) -> np.ndarray:
        """How far each key is after each query of a block (queries, keys), in steps of the dilation."""
        return np.arange(self.reach) - self.before - np.arange(self.block)[:, None]

    def inside(self) -> np.ndarray:
        """Return whether a key is in the neighborhood of a query (classes, blocks, queries, keys).

        Queries that are padding have all keys, so that their softmax is defined.
        """
        shape = (self.dilation, self.blocks, self.block, 1)
        first, are_pixels = self._first.reshape(shape), self._are_pixels.reshape(shape)
        keys = (np.arange(self.blocks) * self.block - self.before)[:, None, None] + np.arange(self.reach)
        return (keys >= first) & (keys < first + self.kernel_size) | ~are_pixels

    def positions(self, keys: bool) -> np.ndarray:
        """Return the pixel of the axis (classes, blocks, keys or queries); outside the map, it is negative or large."""
        count, before = (self.reach, self.before) if keys else (self.block, 0)
        within = np.arange(self.blocks)[:, None] * self.block - before + np.arange(count)
        return np.arange(self.dilation)[:, None, None] + self.dilation * within


@dataclass(frozen=True)
class Neighborhoods:
    """How a map is divided into blocks of pixels that attend to their neighborhoods together.

    A pixel attends to the `kernel_size` x `kernel_size` nearest pixels in steps of `dilation`. Near the border the
    neighborhood is shifted to be inside the map, so it always has that many pixels. A map with a side that is smaller
    than `kernel_size * dilation` is padded with zeros at the bottom and at the right, and these are pixels like others.

    Blocks are in this order: by their place in a row of the map, the column of their class, its row, and their place
    from top to bottom. The pixels of a block are ordered row by row.

    Attributes:
        size: (height, width) of the map.
        kernel_size: Side of a neighborhood, odd.
        dilation: Rows and columns between its pixels, 1 for neighbors.
        block: (height, width) of a block of queries.
    """

    size: tuple[int, int]
    kernel_size: int
    dilation: int
    block: tuple[int, int]

    @classmethod
    def of(
        cls, size: tuple[int, int], kernel_size: int, dilation: int, block: tuple[int, int] | None = None
    ) -> "Neighborhoods":
        """Return the neighborhoods of a map, in the blocks that are fastest on a device.

        Args:
            size: (height, width) of the map.
            kernel_size: Side of a neighborhood.
            dilation: Rows and columns between its pixels.
            block: (height, width) of a block, or None to choose it.
        """
        sides = [math.ceil(max(side, kernel_size * dilation) / dilation) for side in size]
        parts = [_side_of_block(side, kernel_size) for side in sides] if block is None else block
        height, width = (min(part, side) for part, side in zip(parts, sides, strict=True))
        return cls((size[0], size[1]), kernel_size, dilation, (height, width))

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) of the map, padded to a whole neighborhood."""
        height, width = (max(side, self.kernel_size * self.dilation) for side in self.size)
        return height, width

    @property
    def missing(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of zeros above and below the map, and columns of zeros to the left and to the right of it."""
        below, right = (padded - side for padded, side in zip(self.padded, self.size, strict=True))
        return (0, below), (0, right)

    @functools.cached_property
    def _axes(self):
        return tuple(
            _Axis(side, self.kernel_size, self.dilation, part)
            for side, part in zip(self.padded, self.block, strict=True)
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Number of blocks from top to bottom and from left to right of each class."""
        rows, columns = (axis.blocks for axis in self._axes)
        return rows, columns

    @property
    def reach(self) -> tuple[int, int]:
        """(height, width) of the pixels that are the keys of a block."""
        height, width = (axis.reach for axis in self._axes)
        return height, width

    @property
    def count(self) -> int:
        """Number of blocks of all classes."""
        return self.dilation**2 * math.prod(self.grid)

    @property
    def query_padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of padding around the padded map, as queries."""
        rows, columns = (axis.query_padding for axis in self._axes)
        return rows, columns

    @property
    def key_padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of padding around the padded map, as keys."""
        rows, columns = (axis.key_padding for axis in self._axes)
        return rows, columns

    @property
    def relative_positions(self) -> np.ndarray:
        """The place in a table of relative positions for each query and key of a block (queries * keys,).

        The table is (2 * kernel_size - 1, 2 * kernel_size - 1), flat. Keys that are outside every neighborhood have
        any place.
        """
        last = 2 * self.kernel_size - 2
        rows, columns = (np.clip(axis.distances + self.kernel_size - 1, 0, last) for axis in self._axes)
        return (rows[:, None, :, None] * (last + 1) + columns[None, :, None, :]).ravel()

    @functools.cached_property
    def mask(self) -> np.ndarray | None:
        """What to add to the scores so that only the neighborhood counts (blocks, queries * keys).

        It has one row if it is the same for all blocks, and it is None if every key is in every neighborhood.
        """
        rows, columns = (axis.inside() for axis in self._axes)
        across = columns.swapaxes(0, 1)[:, :, None, None, None, :, None, :]
        inside = rows[None, None, :, :, :, None, :, None] & across
        inside = inside.reshape(self.count, -1)
        if inside.all():
            return None
        if (inside == inside[0]).all():
            inside = inside[:1]
        return np.where(inside, 0.0, _OUTSIDE).astype("float32")

    def positions(self, keys: bool) -> np.ndarray:
        """Return the pixel of the map for each query or key of each block (blocks, pixels), row by row; -1 outside."""
        (height, width), (row_axis, column_axis) = self.size, self._axes
        rows = row_axis.positions(keys)[None, None, :, :, :, None]
        columns = column_axis.positions(keys).swapaxes(0, 1)[:, :, None, None, None, :]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return np.where(inside, rows * width + columns, -1).reshape(self.count, -1)

    def on_map(self, attention: np.ndarray) -> np.ndarray:
        """Return the attention probabilities of the blocks as those of the map's pixels.

        Args:
            attention: (images, heads * blocks, queries of a block, keys of a block).

        Returns:
            (images, heads, pixels of the map, pixels of the map), which is zero outside the neighborhoods. Attention
            to padding is left out.
        """
        images, heads, pixels = len(attention), attention.shape[1] // self.count, math.prod(self.size)
        attention = attention.reshape(images, heads, self.count, *attention.shape[2:])
        result = np.zeros((images, heads, pixels, pixels), attention.dtype)
        pairs = zip(self.positions(keys=False), self.positions(keys=True), strict=True)
        for block, (queries, keys) in enumerate(pairs):
            at, to = np.flatnonzero(queries >= 0), np.flatnonzero(keys >= 0)
            result[:, :, queries[at][:, None], keys[to]] = attention[:, :, block, at[:, None], to]
        return result


def _side_of_block(side: int, kernel_size: int) -> int:
    """Return the side of the blocks for a class of pixels with this side, by measurements on a CPU."""
    return side if side <= 2 * kernel_size else kernel_size
