"""How the range of a grid is chosen from the values that fall on it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from keras_vit.edge.quantization.plan import Grid

# How a range follows from the values: from the smallest to the largest one; without the outermost 0.01 % at either end;
# or so that rounding and clipping cause the least squared error.
Method = Literal["min_max", "percentile", "least_error"]
METHODS = Method.__args__

BINS = 2048  # Of the histogram from the smallest to the largest value.
_TAIL = 1e-4
_STEPS = 64  # Candidates for an end of the range, between 0 and the outermost value.


def choose_range(method: Method, grid: Grid, ends: tuple[float, float], counts: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest value of a grid's range.

    Args:
        method: How the range is chosen.
        grid: The grid.
        ends: The smallest and the largest value that occurred.
        counts: Number of values in each of `BINS` equal bins between them.
    """
    low, high = min(ends[0], 0.0), max(ends[1], 0.0)
    if method == "min_max" or low == high:
        return low, high
    edges = np.linspace(*ends, BINS + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    if method == "percentile":
        below = np.cumsum(counts) / counts.sum()
        return (
            min(0.0, float(edges[np.searchsorted(below, _TAIL, "right")])),
            max(0.0, float(edges[np.searchsorted(below, 1 - _TAIL) + 1])),
        )
    fractions = np.arange(1, _STEPS + 1) / _STEPS
    if grid.symmetric:
        limit = max(-low, high)
        best = min(fractions, key=lambda part: _error(centers, counts, -limit * part, limit * part, grid.bits))
        return -limit * float(best), limit * float(best)
    # One end at a time; the best of one end hardly depends on the other.
    for _ in range(2):
        first, last = min(ends[0], 0.0), max(ends[1], 0.0)
        if last > 0:
            high = last * float(min(fractions, key=lambda part: _error(centers, counts, low, last * part, grid.bits)))
        if first < 0:
            low = first * float(min(fractions, key=lambda part: _error(centers, counts, first * part, high, grid.bits)))
    return low, high


def _error(values, counts, low, high, bits) -> float:
    """Return the squared error of values on a grid: they are uniform within a step, and clipped outside the range."""
    step = (high - low) / (2**bits - 1)
    outside = np.maximum(values - high, 0) + np.maximum(low - values, 0)
    return float(np.dot(counts, np.where(outside > 0, outside**2, step**2 / 12)))
