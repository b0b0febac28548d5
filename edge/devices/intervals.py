"""What samples say about a latency: intervals by the bootstrap, and ratios of files that were measured in turn.

Consecutive invocations are alike, because they share the machine's clock, temperature and other work. So whole turns
(runs of consecutive invocations) are drawn, not single samples: the block bootstrap of Künsch, "The jackknife and the
bootstrap for general stationary observations" (1989).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 500
# More samples than this are thinned for the interval, which makes it wider, not narrower.
_MOST = 4096


class Interval(NamedTuple):
    """An interval that holds the true value with 95 % confidence."""

    low: float
    high: float


def quantile_interval(samples: Sequence[float], quantile: float, turns: Sequence[int] = ()) -> Interval:
    """Return the interval of a quantile.

    Args:
        samples: The samples, in the order in which they were measured.
        quantile: The quantile in percent, such as 50 for the median.
        turns: The number of samples of each turn; without them, turns as long as the square root of their number.
    """
    values = np.asarray(samples, float)
    ends = np.cumsum(turns)
    # With one turn there is nothing to draw from.
    if len(ends) < 8 or ends[-1] != len(values):
        length = max(1, round(len(values) ** 0.5))
        ends = np.append(np.arange(length, len(values), length), len(values))
    blocks = np.split(values, ends[:-1])
    if len(values) > _MOST:
        step = -(-len(values) // _MOST)
        blocks = [block[::step] for block in blocks]
    return _bootstrap(blocks, lambda drawn: float(np.percentile(np.concatenate(drawn), quantile)))


def turn_medians(samples: Sequence[float], turns: Sequence[int]) -> np.ndarray:
    """Return the median of each turn."""
    return np.array([np.median(turn) for turn in np.split(np.asarray(samples, float), np.cumsum(turns)[:-1])])


def paired_ratio(first: np.ndarray, second: np.ndarray) -> tuple[float, Interval]:
    """Return how many times as long the second of two files takes, and its interval.

    Args:
        first, second: The medians of turns that alternated, so that turn i of both met the machine in the same state.
    """
    ratios = list(np.asarray(second) / np.asarray(first))
    return float(np.median(ratios)), _bootstrap(ratios, lambda drawn: float(np.median(drawn)))


def unpaired_ratio(
    first: Sequence[float], second: Sequence[float], first_turns: Sequence[int] = (), second_turns: Sequence[int] = ()
) -> tuple[float, Interval]:
    """Return the ratio of the medians of two files that were measured apart, and its interval."""
    a, b = quantile_interval(first, 50, first_turns), quantile_interval(second, 50, second_turns)
    ratio = float(np.median(second) / np.median(first))
    # The logarithms of both medians are independent, so their errors add up as squares.
    logs = np.log(
        [np.median(first) / a.low, a.high / np.median(first), np.median(second) / b.low, b.high / np.median(second)]
    )
    below, above = np.hypot(logs[1], logs[2]), np.hypot(logs[0], logs[3])
    return ratio, Interval(float(ratio * np.exp(-below)), float(ratio * np.exp(above)))


def _bootstrap(parts: list, statistic: Callable[[list], float]) -> Interval:
    generator = np.random.default_rng(0)
    drawn = [statistic([parts[i] for i in generator.integers(0, len(parts), len(parts))]) for _ in range(_DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(low), float(high))
