"""Measure how long .tflite and .onnx files take on a device, and how much memory they need."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_vit.edge.devices.device import find_device
from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.intervals import Interval, paired_ratio, quantile_interval, turn_medians
from keras_vit.edge.devices.measuring import Journal, Moment, Plan, Samples, measure, sustain, throttling_start
from keras_vit.edge.devices.opening import open_file
from keras_vit.edge.devices.verify import Comparison
from keras_vit.utils.tables import table

# The version of what `to_dict` returns. It becomes larger when a name changes its meaning or is taken away.
SCHEMA = 1

# MLPerf Inference's rules for a single stream: at least 1,024 queries and 60 seconds.
_MLPERF = {"runs": 1024, "seconds": 60.0}

# Below this signal-to-noise ratio, the outputs of a device are not those of the file. Rounding alone stays above it.
_LEAST_SNR_DB = 10.0

_LAUNCHES = 5
_SLOW_START_MS = 5000.0


@dataclass(frozen=True)
class Benchmark:
    """The measurements of one file. It prints as a table.

    Attributes:
        file: The file.
        device: The device that it was measured on.
        threads: The number of CPU threads.
        runtime: The name and version of the runtime.
        init_ms: The time until the first result in milliseconds: loading, allocation (which packs weights, or compiles
            shaders), and the first invocation; each is the median of all launches.
        peak_memory_mb: The growth of the process's peak resident memory since before the file was loaded, in megabytes
            (10^6 bytes); None if the device does not report it.
        samples_ms: The time of each measured invocation in milliseconds, in the order in which they ran; on a
            phone, the median of each 20 of them.
        turns: The number of samples of each turn: files that are measured together alternate.
        launches: The number of turns of each launch of the process.
        load_ms, first_ms: The parts of `init_ms` before and in the first invocation.
        cores: The CPU cores that the process was pinned to; empty if it could use all.
        file_sha256: The SHA-256 hash of the file, and `file_bytes` its size.
        facts: What the device is, and its sensors before and after: board, CPU, system, governor, temperature, clock.
        snr_db: The signal-to-noise ratio of the outputs against this machine's CPU in dB, for another device.
        energy_mj: The energy of an invocation in millijoules; None if the board does not measure it.
        sustained: What was measured second by second under sustained load.
        time: When it was measured, in UTC.
    """

    file: str
    device: str
    threads: int
    runtime: str
    init_ms: float
    peak_memory_mb: float | None
    samples_ms: list[float] = field(repr=False)
    turns: list[int] = field(default_factory=list, repr=False)
    launches: list[int] = field(default_factory=list, repr=False)
    load_ms: float | None = None
    first_ms: float | None = None
    cores: tuple[int, ...] = ()
    file_sha256: str | None = None
    file_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    snr_db: float | None = None
    energy_mj: float | None = None
    sustained: list[Moment] = field(default_factory=list, repr=False)
    time: str | None = None

    @property
    def p50_ms(self) -> float:
        """The median time of an invocation in milliseconds."""
        return float(np.percentile(self.samples_ms, 50))

    @property
    def p90_ms(self) -> float:
        """The 90th percentile of the time of an invocation in milliseconds."""
        return float(np.percentile(self.samples_ms, 90))

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the time of an invocation in milliseconds."""
        return float(np.percentile(self.samples_ms, 99))

    @property
    def mean_ms(self) -> float:
        """The mean time of an invocation in milliseconds."""
        return float(np.mean(self.samples_ms))

    @property
    def spread(self) -> float:
        """The distance between the quartiles as a fraction of the median."""
        low, high = np.percentile(self.samples_ms, [25, 75])
        return float((high - low) / self.p50_ms)

    @property
    def throttling_start_s(self) -> float | None:
        """When the device began to be slower for good under sustained load, in seconds; None if it did not."""
        return throttling_start(self.sustained)

    def interval(self, quantile: float = 50) -> Interval:
        """Return the 95 % confidence interval of a quantile in milliseconds.

        Args:
            quantile: The quantile in percent.
        """
        return quantile_interval(self.samples_ms, quantile, self.turns, self.launches)

    def to_dict(self) -> dict:
        """Return all measurements as values that JSON can hold."""
        return {
            "schema": SCHEMA,
            "file": self.file,
            "file_sha256": self.file_sha256,
            "file_bytes": self.file_bytes,
            "device": self.device,
            "threads": self.threads,
            "cores": list(self.cores),
            "runtime": self.runtime,
            "time": self.time,
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p99_ms": self.p99_ms,
            "mean_ms": self.mean_ms,
            "spread": self.spread,
            "p50_interval_ms": list(self.interval(50)),
            "p90_interval_ms": list(self.interval(90)),
            "p99_interval_ms": list(self.interval(99)),
            "init_ms": self.init_ms,
            "load_ms": self.load_ms,
            "first_ms": self.first_ms,
            "peak_memory_mb": self.peak_memory_mb,
            "snr_db": self.snr_db,
            "energy_mj": self.energy_mj,
            "facts": self.facts,
            "samples_ms": list(self.samples_ms),
            "turns": list(self.turns),
            "launches": list(self.launches),
            "sustained": [dataclasses.asdict(moment) for moment in self.sustained],
            "throttling_start_s": self.throttling_start_s,
        }

    @classmethod
    def from_dict(cls, values: dict) -> Benchmark:
        """Return the benchmark of which `to_dict` gave the values.

        Raises:
            ValueError: They are of a newer version, or not a benchmark.
        """
        version = values.get("schema", 1)
        if not isinstance(version, int) or version > SCHEMA:
            raise ValueError(f"The benchmark has schema {version!r}; this version of keras_vit knows {SCHEMA}.")
        names = {entry.name for entry in dataclasses.fields(cls)}
        try:
            known = {name: value for name, value in values.items() if name in names}
            known["cores"] = tuple(known.get("cores", ()))
            known["sustained"] = [Moment(**moment) for moment in known.get("sustained", ())]
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"These are not the values of a benchmark: {error}.") from None

    def __str__(self) -> str:
        return str(Benchmarks([self]))


class Benchmarks(list):
    """A list of the benchmarks of several files that were measured in turn. It prints as one table."""

    def ratio(self, index: int) -> tuple[float, Interval | None]:
        """Return how many times as long a file takes as the first, and the interval of that.

        Args:
            index: The place of the file in the list.
        """
        first, other = self[0], self[index]
        if len(first.turns) == len(other.turns) > 1:
            return paired_ratio(
                turn_medians(first.samples_ms, first.turns),
                turn_medians(other.samples_ms, other.turns),
                other.launches if first.launches == other.launches else (),
            )
        return other.p50_ms / first.p50_ms, None

    def to_dict(self) -> dict:
        """Return all measurements as values that JSON can hold."""
        return {"schema": SCHEMA, "benchmarks": [benchmark.to_dict() for benchmark in self]}

    @classmethod
    def from_dict(cls, values: dict) -> Benchmarks:
        """Return the benchmarks of which `to_dict` gave the values; a single one makes a list of one."""
        return cls(Benchmark.from_dict(entry) for entry in values.get("benchmarks", [values]))

    def __str__(self) -> str:
        header = ["file", "p50 ms", "± ms", "p90 ms", "p99 ms", "init ms", "memory MB"]
        rows = []
        for benchmark in self:
            low, high = benchmark.interval()
            times = (benchmark.p50_ms, (high - low) / 2, benchmark.p90_ms, benchmark.p99_ms, benchmark.init_ms)
            memory = "-" if benchmark.peak_memory_mb is None else f"{benchmark.peak_memory_mb:.1f}"
            rows.append([os.path.basename(benchmark.file), *(f"{ms:.2f}" for ms in times), memory])
        extra: list[tuple[str, Callable[[Benchmark], str | None]]] = [
            ("energy mJ", lambda each: None if each.energy_mj is None else f"{each.energy_mj:.2f}"),
            ("SNR dB", lambda each: None if each.snr_db is None else f"{each.snr_db:.1f}"),
        ]
        for title, text in extra:
            cells = [text(benchmark) for benchmark in self]
            if any(cells):
                header.append(title)
                for row, cell in zip(rows, cells, strict=True):
                    row.append(cell or "-")
        if len(self) > 1:
            header += ["speed", "95 %"]
            for i, row in enumerate(rows):
                ratio, interval = self.ratio(i)
                row.append(f"{1 / ratio:.2f}x")
                row.append("-" if interval is None or not i else f"{1 / interval.high:.2f} to {1 / interval.low:.2f}")
        lines = [table(header, rows)]
        if self:
            threads = f"{self[0].threads} thread{'s' if self[0].threads > 1 else ''}"
            runs = f"{len(self[0].samples_ms)} runs"
            if len(self[0].launches) > 1:
                runs += f" in {len(self[0].launches)} launches"
            lines.append(f"{self[0].device}, {threads}, {self[0].runtime}, {runs}")
        for benchmark in self:
            lines += _sustained_lines(benchmark)
        return "\n".join(lines)


def _sustained_lines(benchmark: Benchmark) -> list[str]:
    if not benchmark.sustained:
        return []
    first, last = benchmark.sustained[0], benchmark.sustained[-1]
    start = benchmark.throttling_start_s
    sentence = "no throttling" if start is None else f"slower for good from {start:.0f} s on"
    lines = [
        f"{os.path.basename(benchmark.file)} for {last.at_s / 60:.1f} minutes: {sentence}; "
        f"{first.p50_ms:.2f} ms at the beginning, {last.p50_ms:.2f} ms at the end"
    ]
    for what, unit, name in (("temperature", "°C", "temperature_c"), ("clock", "MHz", "clock_mhz")):
        values = [getattr(moment, name) for moment in benchmark.sustained if getattr(moment, name) is not None]
        if values:
            lines.append(f"  {what} from {values[0]:.0f} to {values[-1]:.0f} {unit}, at most {max(values):.0f}")
    return lines


def benchmark(
    file_or_files: str | os.PathLike | Sequence[str | os.PathLike],
    device: str = "local",
    *,
    threads: int = 1,
    cores: Sequence[int] = (),
    runs: int = 50,
    seconds: float = 0.0,
    warmup: int | None = None,
    launches: int | None = None,
    mlperf: bool = False,
    energy_s: float = 0.0,
    sustained_minutes: float = 0.0,
    cooldown_c: float | None = None,
    resume: str | os.PathLike | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Benchmark | Benchmarks:
    """Measure one .tflite or .onnx file, or compare several.

    Each file has a process of its own, and `benchmark` launches this process several times, because the time of an
    invocation also depends on the memory that a process gets. Several files are measured in turn, and each round begins
    with another file, so that a machine that becomes slower affects all files equally. Only invocations are timed, not
    the copying of inputs. On a device other than this machine, the outputs for one random input are compared with those
    of this machine's CPU, because a runtime that reports success may still compute wrong results.

    Args:
        file_or_files: A file, or a list of files.
        device: The device to run on: "local" for this machine, or what `keras-vit devices` lists.
        threads: The number of CPU threads for the runtime.
        cores: The CPU cores that the process may use; all by default.
        runs: The least number of measured invocations of each file.
        seconds: The least time in seconds that the measured invocations of each file take together.
        warmup: The number of invocations of each file before them, in each launch. By default, until their time is
            stable.
        launches: The number of launches that share the invocations. By default five, and one with `mlperf` or where a
            file takes more than five seconds until its first result.
        mlperf: Whether to measure as MLPerf's rules for a single stream ask for: at least 1,024 invocations and 60
            seconds.
        energy_s: The seconds for which each file is run once more to measure energy; 0 not to. It needs a board with
            power sensors.
        sustained_minutes: The minutes for which each file is run afterwards without a pause, to see whether the device
            becomes slower as it warms up.
        cooldown_c: The temperature in degrees Celsius that the device must have come down to before each turn.
        resume: A file that keeps the samples while the measurement runs. If it is there already, because an earlier
            call was interrupted, its samples count. It is removed at the end.
        seed: The seed of the random inputs: normally distributed floats, or integers in the range of their type. A
            dynamic axis has size 1.
        progress: Called with a sentence about what is done, now and then.

    Returns:
        A `Benchmark`, or for a list of files a `Benchmarks` with one `Benchmark` for each, in the same order.

    Raises:
        ValueError: An argument is out of range, a file is empty, truncated, corrupt, or not for this runtime, or the
            device computes other outputs than this machine's CPU.
        OSError: A file is missing or cannot be read, or the device cannot be reached.
        ImportError: No runtime for a file is installed. The message gives the pip commands.
        RuntimeError: A file crashed the runtime. The message names the file.
    """
    place = find_device(device)  # A name that is none is refused first.
    if not place.measures_time:
        raise ValueError(
            f"{device} is an emulation, whose times mean nothing; `keras-vit verify` compares its outputs."
        )
    for what, value in (("threads", threads), ("launches", launches)):
        if value is not None and value < 1:
            raise ValueError(f"{what} must be at least 1; received {value}.")
    if mlperf:
        runs, seconds = max(runs, int(_MLPERF["runs"])), max(seconds, _MLPERF["seconds"])
        launches = launches or 1
    plan = Plan(runs, seconds, warmup, cooldown_c)
    if (together := place.runs_per_sample) > 1:
        plan = dataclasses.replace(plan, runs=max(10, -(-runs // together)), seconds=seconds / together)
    one = isinstance(file_or_files, (str, os.PathLike))
    files = [file_or_files] if isinstance(file_or_files, (str, os.PathLike)) else list(file_or_files)
    if not files:
        raise ValueError("The list of files is empty; pass at least one .tflite or .onnx file.")
    say = progress or (lambda sentence: None)

    def report(samples: list[Samples]) -> None:
        count = min(len(entry.ms) for entry in samples)
        say(f"{count} of {plan.runs} runs")

    samples: list[Samples] = []
    every_start: list[list[tuple[float, float]]] = []
    memories: list[list[float | None]] = []
    done, share = 0, 0.0
    while share < 1:
        with contextlib.ExitStack() as stack:
            interpreters = [stack.enter_context(open_file(file, threads, device, cores)) for file in files]
            every_start.append([_start(interpreter, seed) for interpreter in interpreters])
            if len(every_start) == 1:
                slow = max(map(sum, every_start[0])) > _SLOW_START_MS
                count = min(launches or (1 if slow else _LAUNCHES), plan.runs)
                checked = device != "local" and place.computes_outputs
                ratios = [_check_outputs(each, threads, seed) if checked else None for each in interpreters]
                hashes = [_sha256(file) for file in files]
                facts = [interpreter.request("facts") for interpreter in interpreters]
                before = [interpreter.request("sensors") for interpreter in interpreters]
                journal = Journal(
                    resume, {"files": hashes, "device": device, "threads": threads, "cores": list(cores), "seed": seed}
                )
                samples = journal.load(len(files))
                done = len(samples[0].launches)
            done += 1
            share = min(1.0, done / count)
            measure(interpreters, plan, journal, samples, share, report)
            memories.append([interpreter.request("memory")["peak_memory_mb"] for interpreter in interpreters])
            if share == 1:
                after = [interpreter.request("sensors") for interpreter in interpreters]
                energies = [_energy(each, energy_s) if energy_s else None for each in interpreters]
                series: list[list[Moment]] = []
                for interpreter in interpreters:
                    if sustained_minutes:
                        say(f"{os.path.basename(interpreter.file)} for {sustained_minutes:g} minutes")
                    series.append(sustain(interpreter, sustained_minutes) if sustained_minutes else [])
    journal.remove()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    starts = np.median(every_start, axis=0)  # Of each file, before and in the first invocation.
    results = Benchmarks(
        Benchmark(
            file=interpreter.file,
            device=device,
            threads=threads,
            runtime=interpreter.runtime,
            init_ms=float(starts[i].sum()),
            peak_memory_mb=max((mb for launch in memories if (mb := launch[i]) is not None), default=None),
            samples_ms=samples[i].ms,
            turns=samples[i].turns,
            launches=samples[i].launches,
            load_ms=float(starts[i][0]),
            first_ms=float(starts[i][1]),
            cores=tuple(cores),
            file_sha256=hashes[i],
            file_bytes=os.path.getsize(interpreter.file),
            facts={**facts[i], "before": before[i], "after": after[i]},
            snr_db=ratios[i],
            energy_mj=energies[i],
            sustained=series[i],
            time=now,
        )
        for i, interpreter in enumerate(interpreters)
    )
    return results[0] if one else results


def _start(interpreter: Interpreter, seed: int) -> tuple[float, float]:
    """Prepare the file and run it once. Return the time before and in the first invocation."""
    allocate_ms = interpreter.allocate()
    interpreter.request("fill", seed=seed)
    return interpreter.load_ms + allocate_ms, interpreter.request("invoke")["ms"]


def _check_outputs(interpreter: Interpreter, threads: int, seed: int) -> float | None:
    """Return the signal-to-noise ratio of the outputs against those of this machine's CPU.

    Raises:
        ValueError: It is so low that the device does not compute what the file says.
    """
    random = np.random.default_rng(seed)
    shapes = [[1 if size == -1 else size for size in detail["shape"]] for detail in interpreter.inputs]
    values = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    with open_file(interpreter.file, threads) as here:
        here.allocate()
        comparison = Comparison(interpreter.file)
        comparison.add(here.run(values), interpreter.run(values), None)
    interpreter.request("fill", seed=seed)
    snr_db = comparison.result().snr_db
    if not snr_db >= _LEAST_SNR_DB:  # Also if it is not a number.
        raise ValueError(
            f"{interpreter.file}: {interpreter.device} computes other outputs than this machine's CPU "
            f"(signal to noise {snr_db:.1f} dB), so its latency means nothing. `keras-vit verify` compares more images."
        )
    return snr_db if np.isfinite(snr_db) else None


def _energy(interpreter: Interpreter, seconds: float) -> float | None:
    measured = interpreter.request("energy", seconds=seconds)
    if not measured["watts"]:
        return None
    return float(np.mean(measured["watts"]) * measured["seconds"] / measured["runs"] * 1e3)


def _sha256(file: str | os.PathLike) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
