"""Compare the benchmarks of two runs, such as those of last week's files and of today's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks
from keras_vit.edge.devices.intervals import Interval, unpaired_ratio
from keras_vit.utils.tables import table

# What two runs of one file on one machine differ by, without anything having changed: where its memory lies, what the
# machine did before. An interval from the samples of a run does not know of this.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Change:
    """How the latency of a file changed.

    Attributes:
        file: The name of the file.
        device: The device that both were measured on.
        old_ms, new_ms: The medians in milliseconds.
        ratio: How many times as long the new one takes.
        interval: The 95 % confidence interval of the ratio.
        verdict: "slower" or "faster" if the whole interval is beyond the tolerance, and "same" otherwise.
    """

    file: str
    device: str
    old_ms: float
    new_ms: float
    ratio: float
    interval: Interval
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The changes of all files that two runs have in common. It prints as a table.

    Attributes:
        changes: One for each file, in the order of the new run.
        unmatched: The files that only one of the runs has.
        tolerance: The change that counts as none, as a fraction.
    """

    changes: list[Change]
    unmatched: list[str]
    tolerance: float

    @property
    def slower(self) -> bool:
        """Whether any file became slower."""
        return any(change.verdict == "slower" for change in self.changes)

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        return {**asdict(self), "slower": self.slower}

    def __str__(self) -> str:
        rows = [
            (
                change.file,
                change.device,
                f"{change.old_ms:.3f}",
                f"{change.new_ms:.3f}",
                f"{change.ratio:.3f}",
                f"{change.interval[0]:.3f} to {change.interval[1]:.3f}",
                change.verdict,
            )
            for change in self.changes
        ]
        lines = [table(("file", "device", "old ms", "new ms", "ratio", "95 %", "verdict"), rows)]
        lines += [f"{name} is in only one of the two." for name in self.unmatched]
        return "\n".join(lines)


def compare(old: Benchmarks, new: Benchmarks, tolerance: float = _TOLERANCE) -> Comparison:
    """Compare the files that two runs have in common, by their names.

    Args:
        old, new: The two runs.
        tolerance: The change that counts as none, as a fraction.

    Raises:
        ValueError: They have no file in common, or a file was measured on another device or with other settings.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance must be at least 0; received {tolerance}.")
    before, after = _by_name(old), _by_name(new)
    common = [name for name in after if name in before]
    if not common:
        raise ValueError(f"The two have no file in common: {', '.join(before)} and {', '.join(after)}.")
    changes = []
    for name in common:
        a, b = before[name], after[name]
        for what in ("device", "threads", "cores"):
            if getattr(a, what) != getattr(b, what):
                raise ValueError(
                    f"{name} was measured with {what} {getattr(a, what)!r} and {getattr(b, what)!r}; "
                    "measure both alike."
                )
        ratio, interval = unpaired_ratio(a.p50_ms, b.p50_ms, a.interval(), b.interval())
        slower, faster = interval.low > 1 + tolerance, interval.high < 1 / (1 + tolerance)
        verdict = "slower" if slower else "faster" if faster else "same"
        changes.append(Change(name, b.device, a.p50_ms, b.p50_ms, ratio, interval, verdict))
    return Comparison(changes, sorted(before.keys() ^ after.keys()), tolerance)


def _by_name(benchmarks: Iterable[Benchmark]) -> dict[str, Benchmark]:
    return {os.path.basename(benchmark.file): benchmark for benchmark in benchmarks}


def load_benchmarks(path: str | os.PathLike) -> Benchmarks:
    """Return the benchmarks in a JSON file that `keras-vit benchmark --json` wrote.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not such a file.
    """
    try:
        return Benchmarks.from_dict(json.loads(Path(path).read_text()))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{os.fspath(path)} is not a file of benchmarks: {error}") from None
