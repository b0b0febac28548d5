"""How long to measure, and when a device throttles. The device is played by numbers."""

import itertools

import numpy as np
import pytest

from keras_vit.edge.devices import measuring
from keras_vit.edge.devices.measuring import Journal, Moment, Plan, cool_down, measure, throttling_start, warm_up


class Played:
    """An interpreter whose times and temperatures are given."""

    def __init__(self, times, temperatures=()):
        self.times, self.temperatures = iter(times), iter(temperatures)
        self.taken = 0

    def request(self, command, runs=1, seconds=0.0):
        if command == "sensors":
            return {"temperature_c": next(self.temperatures), "clock_mhz": None, "power_w": None}
        samples = []
        while len(samples) < runs or sum(samples) < seconds * 1e3:
            samples.append(next(self.times))
        self.taken += len(samples)
        return {"samples_ms": samples}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: None)


def measured(interpreters, plan, share=1.0, samples=None):
    samples = samples or [measuring.Samples() for _ in interpreters]
    measure(interpreters, plan, Journal(None, {}), samples, share)
    return samples


def test_the_warm_up_ends_when_the_time_is_stable():
    # It falls by 3 % of its excess in each run, and is within 2 % of the window before after about 140 runs.
    interpreter = Played([10 + 100 * 0.97**i for i in range(2000)])
    warm_up(interpreter, Plan())
    assert 100 <= interpreter.taken <= 220
    interpreter = Played([10.0] * 100)
    warm_up(interpreter, Plan(warmup=3))
    assert interpreter.taken == 3


@pytest.mark.parametrize("plan", [Plan(runs=50), Plan(runs=5, seconds=2.0), Plan(runs=1024, seconds=60.0)])
def test_both_the_runs_and_the_seconds_are_reached(plan):
    noise = np.random.default_rng(0).gamma(50, 0.2, 100_000)
    fast, slow = Played(noise), Played(noise * 3)
    for samples in measured([fast, slow], Plan(plan.runs, plan.seconds, 0)):
        assert len(samples.ms) >= plan.runs and sum(samples.ms) >= plan.seconds * 1e3
        assert len(samples.turns) >= 10 and samples.launches == [len(samples.turns)]


def test_launches_share_the_runs():
    samples = None
    for launch in (1, 2, 3, 4, 5):
        samples = measured([Played([5.0] * 100)], Plan(50, 0, 0), launch / 5, samples)
        assert len(samples[0].ms) == 10 * launch and len(samples[0].launches) == launch
    assert sum(samples[0].launches) == len(samples[0].turns) >= 10


def test_the_turns_of_a_fast_file_are_as_long_as_others():
    """Otherwise the slow one would run for as many short turns as the seconds of the fast one need."""
    fast, slow = Played(itertools.repeat(0.01)), Played(itertools.repeat(5.0))
    samples = measured([fast, slow], Plan(1024, 2.0, 0))
    assert sum(samples[0].ms) >= 2000 and sum(samples[1].ms) < 10_000


def test_a_round_begins_only_when_the_device_is_cool():
    interpreter = Played([1.0] * 100, [70.0, 65.0, 59.0, 61.0, 58.0])
    assert cool_down([interpreter], 60) == 59.0
    assert cool_down([interpreter], 60) == 58.0
    assert cool_down([Played([], [None])], 60) is None


def moments(times, values):
    return [Moment(at, ms, None, None, None) for at, ms in zip(times, values, strict=True)]


def test_throttling_is_found_when_it_lasts():
    times = np.arange(0.0, 300.0)
    noise = np.random.default_rng(0).normal(1, 0.01, 300)
    late = np.where(times < 120, 10.0, 12.0) * noise
    assert throttling_start(moments(times, late)) == pytest.approx(120, abs=6)
    once = np.where((times > 50) & (times < 80), 12.0, 10.0) * noise
    assert throttling_start(moments(times, once)) is None
    assert throttling_start(moments(times, 10 * noise)) is None
    assert throttling_start([]) is None
