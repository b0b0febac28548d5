"""The intervals are held against many repetitions of measurements whose true values are known."""

import numpy as np
import pytest

from keras_vit.edge.devices.intervals import paired_ratio, quantile_interval, turn_medians, unpaired_ratio


def drifting(generator, count, level=1.0):
    """Latencies of a machine whose speed drifts: neighbors are alike."""
    steps = generator.standard_normal(count)
    state, states = 0.0, []
    for step in steps:
        state = 0.9 * state + step * 0.02
        states.append(state)
    return level * np.exp(np.array(states)) * (1 + 0.01 * generator.gamma(2, size=count))


def test_the_median_of_independent_samples_lies_in_its_interval():
    inside = 0
    for seed in range(40):
        low, high = quantile_interval(np.random.default_rng(seed).lognormal(size=200), 50)
        inside += low <= 1.0 <= high
    assert inside >= 33  # 95 % of 40 are 38; fewer than 34 have a probability below 1 %.


def test_the_interval_of_alike_neighbors_is_wider_than_that_of_independent_samples():
    samples = drifting(np.random.default_rng(0), 600)
    shuffled = np.random.default_rng(1).permutation(samples)
    low, high = quantile_interval(samples, 50, [20] * 30)
    other_low, other_high = quantile_interval(shuffled, 50, [20] * 30)
    assert high - low > 1.5 * (other_high - other_low)


def launched(generator, level=1.0):
    """Latencies of five launches of ten turns, which differ by a percent, as on a machine with nothing else to do."""
    launches = np.repeat(np.exp(generator.normal(0, 0.01, 5)), 100)
    return level * launches * (1 + 0.002 * generator.gamma(2, size=500))


def test_the_interval_covers_the_differences_between_launches():
    turns, launches = [10] * 50, [10] * 5
    middle = 1 + 0.002 * 1.678  # The median of the gamma distribution is 1.678.
    inside, without = 0, 0
    for seed in range(40):
        samples = launched(np.random.default_rng(seed))
        low, high = quantile_interval(samples, 50, turns, launches)
        inside += low <= middle <= high
        low, high = quantile_interval(samples, 50, turns)
        without += low <= middle <= high
    assert inside >= 33 and without < 33
    generator = np.random.default_rng(0)
    pairs = [
        paired_ratio(*(turn_medians(launched(generator, level), turns) for level in (1.0, 1.5)), launches)[1]
        for _ in range(40)
    ]
    assert sum(low <= 1.5 <= high for low, high in pairs) >= 33


def test_a_ratio_of_turns_is_exact_where_the_machine_changes_for_both():
    inside = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        machine = np.repeat(np.exp(generator.normal(0, 0.3, 60)), 10)  # For a turn of both, it may be twice as slow.
        first = machine * (1 + 0.01 * generator.gamma(2, size=600))
        second = 1.15 * machine * (1 + 0.01 * generator.gamma(2, size=600))
        ratio, interval = paired_ratio(turn_medians(first, [10] * 60), turn_medians(second, [10] * 60))
        assert ratio == pytest.approx(1.15, abs=0.01) and interval.high - interval.low < 0.02
        inside += interval.low <= 1.15 <= interval.high
    assert inside >= 16  # 95 % of 20 are 19; fewer than 16 have a probability below 1 %.


def test_a_ratio_of_runs_that_were_measured_apart():
    inside = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        first, second = generator.lognormal(0, 0.1, 300), 1.5 * generator.lognormal(0, 0.1, 300)
        medians, intervals = (map(of, (first, second)) for of in (np.median, lambda each: quantile_interval(each, 50)))
        ratio, interval = unpaired_ratio(*medians, *intervals)
        assert ratio == pytest.approx(1.5, rel=0.1)
        inside += interval.low <= 1.5 <= interval.high
    assert inside >= 16
