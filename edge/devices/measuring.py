"""Run files in turn on a device, for as long as a plan says, and keep every sample."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.utils.files import replacing

# A turn is this long, so that its first invocations, with other files' data still in the caches, count little.
_TURN_S = 0.05
_LONG_TURN_S = 1.0
# The warm-up ends when two windows in a row agree; each is so many runs and so long at least.
_WINDOW_RUNS, _WINDOW_S, _LONGEST_WARMUP_S = 5, 0.1, 20.0
_STABLE = 0.02
_SAVE_EVERY_S = 5.0
# A device that is not cool after this time is measured all the same.
_LONGEST_COOLING_S = 600.0
_WAIT_S = 2.0


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Attributes:
        runs: The least number of invocations of each file.
        seconds: The least time that the invocations of each file take together.
        warmup: The number of invocations before them; None to go on until their time is stable.
        cooldown_c: The temperature in degrees Celsius that the device must have come down to before each turn; None not
            to wait.
    """

    runs: int = 50
    seconds: float = 0.0
    warmup: int | None = None
    cooldown_c: float | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("runs", self.runs, 1), ("seconds", self.seconds, 0), ("warmup", self.warmup, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}; received {value}.")


@dataclass
class Samples:
    """The samples of one file so far.

    Attributes:
        ms: The time of each invocation in milliseconds, in order.
        turns: The number of invocations of each turn.
        launches: The number of turns of each launch of the process.
    """

    ms: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    launches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.turns and not self.launches:  # Journals of earlier versions have one launch, and don't say so.
            self.launches = [len(self.turns)]

    def add(self, turn: Sequence[float], new_launch: bool) -> None:
        """Add the samples of a turn, which may be the first one of a launch."""
        self.ms += turn
        self.turns.append(len(turn))
        if new_launch:
            self.launches.append(0)
        self.launches[-1] += 1

    def missing(self, plan: Plan, share: float) -> tuple[float, float]:
        """Return how many runs and milliseconds are missing to a share of what the plan asks for."""
        return share * plan.runs - len(self.ms), share * plan.seconds * 1e3 - sum(self.ms)


class Journal:
    """The samples of an interrupted measurement, in a file.

    Args:
        path: The file; None to keep nothing.
        subject: What is measured and how: a journal of another subject is refused.
    """

    def __init__(self, path: str | os.PathLike | None, subject: dict):
        self._path, self._subject = None if path is None else Path(path), subject
        self._saved = time.monotonic()

    def load(self, count: int) -> list[Samples]:
        """Return the samples of each file that were measured before.

        Raises:
            ValueError: The file is not a journal, or of other files, another device or other settings.
        """
        if self._path is None or not self._path.exists():
            return [Samples() for _ in range(count)]
        try:
            found = json.loads(self._path.read_text())
            subject, samples = found["subject"], [Samples(**entry) for entry in found["samples"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path} does not hold samples of an interrupted measurement: {error!r}.") from None
        for name, value in self._subject.items():
            if subject.get(name) != value:
                raise ValueError(
                    f"{self._path} has samples with other {name}: {subject.get(name)!r}, not {value!r}. Remove it, "
                    "or name another file."
                )
        return samples

    def save(self, samples: Sequence[Samples], now: bool = False) -> None:
        """Write the samples, if some time has passed since the last time or if they must be written now."""
        if self._path is None or not (now or time.monotonic() - self._saved > _SAVE_EVERY_S):
            return
        entries = [{"ms": entry.ms, "turns": entry.turns, "launches": entry.launches} for entry in samples]
        with replacing(self._path) as partial:
            partial.write_text(json.dumps({"subject": self._subject, "samples": entries}))
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the file, because the measurement is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def warm_up(interpreter: Interpreter, plan: Plan) -> None:
    """Run a file until its time is stable, or as often as the plan says."""
    if plan.warmup is not None:
        if plan.warmup:
            interpreter.request("time", runs=plan.warmup)
        return
    begin, before = time.monotonic(), np.inf
    while time.monotonic() - begin < _LONGEST_WARMUP_S:
        window = interpreter.request("time", runs=_WINDOW_RUNS, seconds=_WINDOW_S)["samples_ms"]
        median = float(np.median(window))
        if abs(median - before) <= _STABLE * median:
            return
        before = median


def measure(
    interpreters: Sequence[Interpreter],
    plan: Plan,
    journal: Journal,
    samples: list[Samples],
    share: float = 1.0,
    progress: Callable[[list[Samples]], None] = lambda samples: None,
) -> None:
    """Run files in turn until each has its share of what the plan asks for. It counts as one launch of each.

    Each round begins with another file, so that a machine that becomes slower affects all files equally. All files take
    part in every round, so that the turns of one file can be compared with those of another.

    Args:
        interpreters: The files, each with its inputs filled.
        plan: How long to measure.
        journal: Where the samples are kept meanwhile. An interruption loses none.
        samples: The samples of each file so far, to which those of this launch are added.
        share: The part of the plan after which the launch ends; earlier launches count.
        progress: Called after each round with the samples so far.
    """
    for interpreter in interpreters:
        warm_up(interpreter, plan)
    new_launch = True
    longest = _TURN_S if len(interpreters) > 1 else _LONG_TURN_S
    try:
        for order in _rounds(len(interpreters), len(samples[0].turns)):
            if not any(lack > 0 for entry in samples for lack in entry.missing(plan, share)):
                break
            if plan.cooldown_c is not None:
                cool_down(interpreters, plan.cooldown_c)
            turns = {}
            for i in order:
                runs = _turn(samples[i], plan, share, longest)
                turns[i] = interpreters[i].request("time", runs=runs)["samples_ms"]
            for i, turn in turns.items():  # Of a round that is interrupted, nothing counts.
                samples[i].add(turn, new_launch)
            new_launch = False
            journal.save(samples)
            progress(samples)
    except BaseException:
        journal.save(samples, now=True)
        raise


def _turn(samples: Samples, plan: Plan, share: float, longest_s: float) -> int:
    """Return how many invocations the next turn of a file has."""
    if not samples.ms:
        return 1
    typical = float(np.median(samples.ms[-100:]))
    most = max(1, round(longest_s * 1e3 / max(typical, 1e-3)))
    # What the plan asks for in all, and what of the share is missing.
    needed = max(plan.runs, round(plan.seconds * 1e3 / max(typical, 1e-3)))
    runs, ms = samples.missing(plan, share)
    missing = max(math.ceil(runs), round(ms / max(typical, 1e-3)), 1)
    # At least ten rounds, or there would be no intervals.
    return min(most, missing, max(1, needed // 10))


def _rounds(count: int, start: int) -> Iterator[list[int]]:
    """Generate 0, 1, ..., count - 1 in cyclic orders, each of which begins one later than the one before."""
    while True:
        yield [(start + i) % count for i in range(count)]
        start += 1


def cool_down(interpreters: Sequence[Interpreter], degrees_c: float) -> float | None:
    """Wait until a device is cool. Return its temperature; None if it does not report one."""
    begin = time.monotonic()
    while True:
        readings = [interpreter.request("sensors")["temperature_c"] for interpreter in interpreters]
        known = [reading for reading in readings if reading is not None]
        if not known or max(known) <= degrees_c or time.monotonic() - begin > _LONGEST_COOLING_S:
            return max(known) if known else None
        time.sleep(_WAIT_S)


@dataclass(frozen=True)
class Moment:
    """A second of a sustained measurement.

    Attributes:
        at_s: When it began, in seconds since the beginning.
        p50_ms: The median time of its invocations in milliseconds.
        temperature_c, clock_mhz, power_w: What the device reported after it; None where it reports nothing.
    """

    at_s: float
    p50_ms: float
    temperature_c: float | None
    clock_mhz: float | None
    power_w: float | None


def sustain(interpreter: Interpreter, minutes: float) -> list[Moment]:
    """Run a file without a pause for some minutes, and read the sensors after each second."""
    begin, moments = time.monotonic(), []
    while (at_s := time.monotonic() - begin) < minutes * 60:
        turn = interpreter.request("time", runs=1, seconds=1.0)["samples_ms"]
        moments.append(Moment(at_s, float(np.median(turn)), **interpreter.request("sensors")))
    return moments


def throttling_start(moments: Sequence[Moment], window_s: float = 10.0, slower: float = 1.05) -> float | None:
    """Return when a device began to be slower for good, in seconds; None if it did not.

    It is the first moment from which on every window is more than 5 % slower than the first window.
    """
    times = np.array([moment.at_s for moment in moments])
    values = np.array([moment.p50_ms for moment in moments])
    if not len(times) or times[-1] < 2 * window_s:
        return None
    limit = slower * np.median(values[times < window_s])
    start = None
    for at in times[times <= times[-1] - window_s]:
        window = values[(times >= at) & (times < at + window_s)]
        slow = np.median(window) > limit
        start = (at if start is None else start) if slow else None
    return None if start is None else float(start)
