"""How a map is divided into windows (Liu et al., arXiv 2103.14030, section 3.2). This module does not use Keras."""

import functools
import math
from dataclasses import dataclass

import numpy as np

# Added to the score of two pixels that are in the same window only because the map was shifted; the authors' value.
_MASKED = -100.0


@dataclass(frozen=True)
class Windows:
    """How a map is divided into windows.

    A map that is not a multiple of the window is padded with zeros at the bottom and at the right.

    Attributes:
        size: (height, width) of the map.
        window: (height, width) of a window.
        shift: Rows and columns by which the map is shifted up and to the left, cyclically, before it is divided.
        pad_first: Whether the map is padded before it is shifted, as in the authors' code, or after that, as in timm.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]
    pad_first: bool = True

    @classmethod
    def of(cls, size: tuple[int, int], window: int, shifted: bool, pad_first: bool = True) -> "Windows":
        """Return the windows of a map.

        A side that is not larger than the window is one window, and it is not shifted.

        Args:
            size: (height, width) of the map.
            window: Side of a window.
            shifted: Whether the map is shifted by half a window.
            pad_first: See the attribute.
        """
        height, width = size
        down, right = (window // 2 if shifted and side > window else 0 for side in size)
        return cls((height, width), (min(window, height), min(window, width)), (down, right), pad_first)

    @property
    def grid(self) -> tuple[int, int]:
        """Number of windows from top to bottom, and from left to right."""
        rows, columns = (math.ceil(side / part) for side, part in zip(self.size, self.window, strict=True))
        return rows, columns

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) of the padded map."""
        rows, columns = (part * count for part, count in zip(self.window, self.grid, strict=True))
        return rows, columns

    @property
    def missing(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of zeros above and below the map, and columns of zeros to the left and to the right of it."""
        below, right = (padded - side for padded, side in zip(self.padded, self.size, strict=True))
        return (0, below), (0, right)

    @property
    def count(self) -> int:
        """Number of windows."""
        return math.prod(self.grid)

    @property
    def area(self) -> int:
        """Number of pixels of a window."""
        return math.prod(self.window)

    def partition(self, maps: np.ndarray) -> np.ndarray:
        """Return the pixels of a padded map (height, width) window by window, column by column: (windows, pixels)."""
        (rows, columns), (height, width) = self.grid, self.window
        return maps.reshape(rows, height, columns, width).transpose(2, 0, 1, 3).reshape(self.count, self.area)

    @functools.cached_property
    def mask(self) -> np.ndarray | None:
        """The mask (windows, pixels, pixels) to add to the scores; None if the map is not shifted.

        After a cyclic shift, the last windows contain pixels from opposite sides of the map, which must not attend to
        each other.
        """
        if not any(self.shift):
            return None
        parts = []
        for side, window, shift in zip(self.padded, self.window, self.shift, strict=True):
            pixel = np.arange(side)
            parts.append((pixel >= side - window).astype(int) + (pixel >= side - shift))
        regions = self.partition(3 * parts[0][:, None] + parts[1])
        return np.where(regions[:, :, None] == regions[:, None, :], 0.0, _MASKED).astype("float32")

    @functools.cached_property
    def positions(self) -> np.ndarray:
        """The pixel of the map at each place of each window (windows, pixels), row by row; -1 at padding."""
        height, width = self.size
        maps = np.arange(height * width).reshape(height, width)
        shift = tuple(-rows for rows in self.shift)
        if self.pad_first:
            maps = np.roll(np.pad(maps, self.missing, constant_values=-1), shift, axis=(0, 1))
        else:
            maps = np.pad(np.roll(maps, shift, axis=(0, 1)), self.missing, constant_values=-1)
        return self.partition(maps)

    @functools.cached_property
    def relative_positions(self) -> np.ndarray:
        """The row in a table of relative positions for each pair of pixels of a window (pixels, pixels).

        The table has a row for each difference in rows and columns, from -(height - 1) and -(width - 1) on.
        """
        height, width = self.window
        row, column = np.divmod(np.arange(self.area), width)
        rows = row[:, None] - row + height - 1
        columns = column[:, None] - column + width - 1
        return rows * (2 * width - 1) + columns

    def on_map(self, attention: np.ndarray) -> np.ndarray:
        """Return the attention probabilities of the windows as those of the map's pixels.

        Args:
            attention: (images, heads * windows, pixels of a window, pixels of a window).

        Returns:
            (images, heads, pixels of the map, pixels of the map). It is zero for pixels of different windows, and
            attention to padding is left out.
        """
        images, heads, pixels = len(attention), attention.shape[1] // self.count, math.prod(self.size)
        attention = attention.reshape(images, heads, self.count, self.area, self.area)
        result = np.zeros((images, heads, pixels, pixels), attention.dtype)
        for window, positions in enumerate(self.positions):
            inside = np.flatnonzero(positions >= 0)
            at = positions[inside]
            result[:, :, at[:, None], at] = attention[:, :, window, inside[:, None], inside]
        return result
