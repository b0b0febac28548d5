"""What samples say about a latency: intervals by the bootstrap, and ratios of files that were measured in turn.

Consecutive invocations are alike, because they share the machine's clock, temperature and other work. So whole turns
(runs of consecutive invocations) are drawn, not single samples: the block bootstrap of Künsch, "The jackknife and the
bootstrap for general stationary observations" (1989).

All invocations of a process share where its memory lies, which no number of them averages out. So the launches are
compared too, by Student's t: Kalibera and Jones, "Rigorous benchmarking in reasonable time" (2013). The interval is the
union of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 500
# More samples than this are thinned for the interval, which makes it wider, not narrower.
_MOST = 4096
# Student's t at 97.5 %, for 2 to 10 launches. More launches take the last value, which is too large for them.
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


class Interval(NamedTuple):
    """An interval that holds the true value with 95 % confidence."""

    low: float
    high: float


def quantile_interval(
    samples: Sequence[float], quantile: float, turns: Sequence[int] = (), launches: Sequence[int] = ()
) -> Interval:
    """Return the interval of a quantile.

    Args:
        samples: The samples, in the order in which they were measured.
        quantile: The quantile in percent, such as 50 for the median.
        turns: The number of samples of each turn; without them, turns as long as the square root of their number.
        launches: The number of turns of each launch.
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
    within = _bootstrap(blocks, lambda drawn: float(np.percentile(np.concatenate(drawn), quantile)))
    starts = np.cumsum([0, *turns])[np.cumsum(launches, dtype=int)[:-1]]
    of_launches = [np.percentile(part, quantile) for part in np.split(values, starts)]
    return _with_launches(float(np.percentile(values, quantile)), within, np.array(of_launches))


def turn_medians(samples: Sequence[float], turns: Sequence[int]) -> np.ndarray:
    """Return the median of each turn."""
    return np.array([np.median(turn) for turn in np.split(np.asarray(samples, float), np.cumsum(turns)[:-1])])


def paired_ratio(first: np.ndarray, second: np.ndarray, launches: Sequence[int] = ()) -> tuple[float, Interval]:
    """Return how many times as long the second of two files takes, and its interval.

    Args:
        first, second: The medians of turns that alternated, so that turn i of both met the machine in the same state.
        launches: The number of turns of each launch.
    """
    ratios = np.asarray(second) / np.asarray(first)
    ratio, within = float(np.median(ratios)), _bootstrap(list(ratios), lambda drawn: float(np.median(drawn)))
    of_launches = [np.median(part) for part in np.split(ratios, np.cumsum(launches, dtype=int)[:-1])]
    return ratio, _with_launches(ratio, within, np.array(of_launches))


def unpaired_ratio(
    first: float, second: float, first_interval: Interval, second_interval: Interval
) -> tuple[float, Interval]:
    """Return the ratio of the medians of two files that were measured apart, and its interval."""
    ratio = second / first
    # The logarithms of both medians are independent, so their errors add up as squares.
    below = np.hypot(np.log(first_interval.high / first), np.log(second / second_interval.low))
    above = np.hypot(np.log(first / first_interval.low), np.log(second_interval.high / second))
    return ratio, Interval(float(ratio * np.exp(-below)), float(ratio * np.exp(above)))


def _with_launches(center: float, within: Interval, of_launches: np.ndarray) -> Interval:
    """Return an interval that is not narrower than what the differences between launches say."""
    count = len(of_launches)
    if count < 2:
        return within
    half = _STUDENT[min(count, len(_STUDENT) + 1) - 2] * float(np.std(of_launches, ddof=1)) / count**0.5
    return Interval(min(within.low, center - half), max(within.high, center + half))


def _bootstrap(parts: list, statistic: Callable[[list], float]) -> Interval:
    generator = np.random.default_rng(0)
    drawn = [statistic([parts[i] for i in generator.integers(0, len(parts), len(parts))]) for _ in range(_DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(low), float(high))
