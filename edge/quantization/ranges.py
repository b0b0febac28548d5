"""How the range of a grid is chosen from the values that fall on it."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from keras_vit.edge.quantization.plan import Grid

# How a range follows from the values: from the smallest to the largest one; without the outermost 0.01 % at either end;
# or so that rounding and clipping cause the least squared error, relative to the signal of each image.
Method = Literal["min_max", "percentile", "least_error"]
METHODS = get_args(Method)

BINS = 2048  # Of the histogram from the smallest to the largest value.
_TAIL = 1e-4
_STEPS = 64  # Candidates for an end of the range, between 0 and the outermost value.


def choose_range(method: Method, grid: Grid, ends: tuple[float, float], counts: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest value of a grid's range.

    Args:
        method: How the range is chosen.
        grid: The grid.
        ends: The smallest and the largest value that occurred.
        counts: Number of values in each of `BINS` equal bins between them, or the sum of their weights.
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

    def best_end(other: float, outermost: float) -> float:
        """Return the end, between zero and the outermost value, that causes the least error with the other end."""
        candidates = outermost * np.arange(_STEPS, 0, -1) / _STEPS  # Of equal errors, the first counts.
        errors = [_error(centers, counts, min(other, end), max(other, end), grid) for end in candidates]
        return float(candidates[np.argmin(errors)])

    if grid.symmetric:
        limit = best_end(0.0, max(-low, high))
        return -limit, limit
    for _ in range(2):  # The best of one end depends little on the other.
        high = best_end(low, max(ends[1], 0.0)) if high else high
        low = best_end(high, min(ends[0], 0.0)) if low else low
    return low, high


def _error(values: np.ndarray, counts: np.ndarray, low: float, high: float, grid: Grid) -> float:
    """Return the squared error of values on a grid. For a symmetric grid, `low` is not used."""
    if grid.symmetric:
        most = 2 ** (grid.bits - 1) - 1
        step, zero, least = high / most, 0.0, -most
    else:
        least, most = 0, 2**grid.bits - 1
        step = (high - low) / most
        zero = np.round(-low / step)
    rounded = (np.clip(np.round(values / step) + zero, least, most) - zero) * step
    # With bins wider than a step, the values in a bin are spread over several steps.
    rounding = 0.0 if values[1] - values[0] < step else step**2 / 12
    return float(np.dot(counts, np.maximum(np.square(rounded - values), rounding)))
