"""Latency budgets: what a file may take on a device, or how much of another file's time, checked against measurements.

A noisy machine makes a file slower for a while, never faster. So an absolute budget is kept if one of several attempts
keeps it. A ratio compares files that take turns, so that noise meets both; more attempts are made until its confidence
interval lies on one side of the limit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_vit.edge.devices.benchmark import Benchmarks, benchmark
from keras_vit.edge.devices.intervals import Interval, paired_ratio, turn_medians
from keras_vit.utils.missing import needs

# What a budget can limit, each an attribute of a `Benchmark`.
LIMITS = ("p50_ms", "p90_ms", "p99_ms", "init_ms", "peak_memory_mb")
_ATTEMPTS = 4
_PAUSE_S = 1.0
# A ratio beyond its limit must be seen in so many attempts, each with processes of its own: where the memory of a
# process lies may change its speed by some percent.
_LEAST_ATTEMPTS_TO_FAIL = 2


@dataclass(frozen=True)
class Budget:
    """What a file may take.

    Attributes:
        file: The file.
        limits: The highest values, by their names in `LIMITS`.
        than: The file that it is compared with; None for absolute limits only.
        ratio: How many times as long as `than` it may take.
        device: The device that the budget is for; None for every device.
        threads: The number of CPU threads.
        runs, seconds: The least number of runs and the least seconds of an attempt.
    """

    file: str
    limits: dict[str, float] = field(default_factory=dict)
    than: str | None = None
    ratio: float | None = None
    device: str | None = None
    threads: int = 1
    runs: int = 100
    seconds: float = 2.0

    @property
    def name(self) -> str:
        """What the budget is about, for the name of a test."""
        limits = [f"{name}<={value:g}" for name, value in self.limits.items()]
        if self.than is not None:
            limits.append(f"ratio<={self.ratio:g} to {os.path.basename(self.than)}")
        return f"{os.path.basename(self.file)}: {', '.join(limits)}"


@dataclass(frozen=True)
class Outcome:
    """Whether a budget is kept. It prints as a sentence for each limit.

    Attributes:
        kept: Whether it is kept.
        sentences: What was measured against each limit.
        attempts: The number of attempts.
        measured: The values by their names, "ratio" among them.
    """

    kept: bool
    sentences: list[str]
    attempts: int
    measured: dict[str, float]

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def load_budgets(path: str | os.PathLike) -> list[Budget]:
    """Return the budgets in a YAML file. Its paths are relative to its folder.

    Raises:
        OSError: The file cannot be read.
        ValueError: It does not have the form that docs/devices.md describes. The message names the entry.
        ImportError: PyYAML is not installed.
    """
    with needs("PyYAML", "latency budgets", "latency"):
        import yaml
    folder = Path(path).resolve().parent
    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{os.fspath(path)} is not a YAML file: {error}") from None
    entries = content.get("budgets") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{os.fspath(path)} needs a list `budgets` with at least one entry.")
    return [_budget(entry, folder, f"{os.fspath(path)}, budget {number}") for number, entry in enumerate(entries, 1)]


def _budget(entry: object, folder: Path, where: str) -> Budget:
    if not isinstance(entry, dict) or "file" not in entry:
        raise ValueError(f"{where}: needs a `file`; received {entry!r}.")
    settings = {"file", "than", "ratio", "device", "threads", "runs", "seconds"}
    unknown = sorted(map(str, entry.keys() - settings - set(LIMITS)))
    if unknown:
        known = ", ".join(sorted(settings | set(LIMITS)))
        raise ValueError(f"{where}: does not know {unknown[0]!r}; known are {known}.")
    limits = {name: entry[name] for name in LIMITS if name in entry}
    numbers = {**limits, **{name: entry[name] for name in ("ratio", "threads", "runs", "seconds") if name in entry}}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ValueError(f"{where}: {name} must be a number above 0; received {value!r}.")
    if ("than" in entry) != ("ratio" in entry):
        raise ValueError(f"{where}: `than` and `ratio` belong together.")
    if not limits and "than" not in entry:
        raise ValueError(f"{where}: sets no limit; it needs one of {', '.join(LIMITS)}, or `than` and `ratio`.")
    rest = {name: entry[name] for name in settings - {"file", "than"} if name in entry}
    than = str(folder / entry["than"]) if "than" in entry else None
    return Budget(str(folder / entry["file"]), limits, than, **rest)


def check_budget(
    budget: Budget,
    device: str = "local",
    *,
    attempts: int = _ATTEMPTS,
    measure: Callable[..., Benchmarks] = benchmark,  # type: ignore[assignment]
) -> Outcome:
    """Measure a file until it is clear whether its budget is kept.

    Args:
        budget: The budget.
        device: The device to measure on.
        attempts: The most attempts.
        measure: What measures; `benchmark` or something with its arguments.

    Raises:
        ValueError, OSError, ImportError, RuntimeError: As of `benchmark`.
    """
    files = [budget.file] if budget.than is None else [budget.than, budget.file]
    best: dict[str, float] = {}
    turns: list[list[np.ndarray]] = [[], []]
    ratio, interval = 0.0, Interval(0.0, 0.0)
    for attempt in range(1, attempts + 1):
        if attempt > 1:
            time.sleep(_PAUSE_S)
        results = measure(files, device, threads=budget.threads, runs=budget.runs, seconds=budget.seconds, launches=1)
        for name in budget.limits:
            value = getattr(results[-1], name)
            if value is None:
                raise ValueError(f"{device} does not report {name}, so the budget of {budget.file} cannot be checked.")
            best[name] = min(value, best.get(name, value))
        within = all(best[name] <= limit for name, limit in budget.limits.items())
        decided = within
        if budget.ratio is not None:
            for kept, result in zip(turns, results, strict=True):
                kept.append(turn_medians(result.samples_ms, result.turns))
            ratio, interval = paired_ratio(np.concatenate(turns[0]), np.concatenate(turns[1]))
            if interval.low > budget.ratio and attempt >= _LEAST_ATTEMPTS_TO_FAIL:
                break
            decided = within and interval.high <= budget.ratio
        if decided:
            break
    sentences = [
        f"{os.path.basename(budget.file)}: {name} is {best[name]:.3f}; the budget is {limit:g}"
        for name, limit in budget.limits.items()
    ]
    measured = dict(best)
    if budget.ratio is not None and budget.than is not None:
        measured["ratio"] = ratio
        within = within and ratio <= budget.ratio
        sentences.append(
            f"{os.path.basename(budget.file)} takes {ratio:.3f} times as long as {os.path.basename(budget.than)} "
            f"({interval.low:.3f} to {interval.high:.3f}); the budget is {budget.ratio:g}"
        )
    plural = "" if attempt == 1 else "s"
    return Outcome(
        within, [f"{sentence} ({attempt} attempt{plural} on {device})" for sentence in sentences], attempt, measured
    )
