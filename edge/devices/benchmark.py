"""Measure how long .tflite and .onnx files take on a device, and how much memory they need."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.opening import open_file
from keras_vit.utils.tables import table

# The devices a file can be measured on.
DEVICES = ("local",)


@dataclass(frozen=True)
class Benchmark:
    """The measurements of one file. It prints as a table.

    Attributes:
        file: The file.
        device: The device that it was measured on.
        threads: The number of CPU threads.
        runtime: The name and version of the runtime.
        init_ms: The time until the first result in milliseconds: loading, allocation (which packs weights), and the
            first invocation.
        peak_memory_mb: The growth of the process's peak resident memory since before the file was loaded, in megabytes
            (10^6 bytes); None if the device does not report it.
        samples_ms: The time of each measured invocation in milliseconds, in the order in which they ran.
    """

    file: str
    device: str
    threads: int
    runtime: str
    init_ms: float
    peak_memory_mb: float | None
    samples_ms: list[float] = field(repr=False)

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

    def to_dict(self) -> dict:
        """Return all measurements as values that JSON can hold."""
        return {
            "file": self.file,
            "device": self.device,
            "threads": self.threads,
            "runtime": self.runtime,
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p99_ms": self.p99_ms,
            "init_ms": self.init_ms,
            "peak_memory_mb": self.peak_memory_mb,
            "samples_ms": list(self.samples_ms),
        }

    def __str__(self) -> str:
        return str(Benchmarks([self]))


class Benchmarks(list):
    """A list of the benchmarks of several files that were measured in turn. It prints as one table."""

    def to_dict(self) -> dict:
        """Return all measurements as values that JSON can hold."""
        return {"benchmarks": [benchmark.to_dict() for benchmark in self]}

    def __str__(self) -> str:
        header = ["file", "p50 ms", "p90 ms", "p99 ms", "init ms", "memory MB"]
        rows = [
            [
                os.path.basename(benchmark.file),
                *(f"{ms:.2f}" for ms in (benchmark.p50_ms, benchmark.p90_ms, benchmark.p99_ms, benchmark.init_ms)),
                "-" if benchmark.peak_memory_mb is None else f"{benchmark.peak_memory_mb:.1f}",
            ]
            for benchmark in self
        ]
        if len(self) > 1:
            header.append("speed")
            for row, benchmark in zip(rows, self, strict=True):
                row.append(f"{self[0].p50_ms / benchmark.p50_ms:.2f}x")
        lines = [table(header, rows)]
        if self:
            threads = f"{self[0].threads} thread{'s' if self[0].threads > 1 else ''}"
            lines.append(f"{self[0].device}, {threads}, {self[0].runtime}, {len(self[0].samples_ms)} runs")
        return "\n".join(lines)


def benchmark(
    file_or_files: str | os.PathLike | Sequence[str | os.PathLike],
    device: str = "local",
    *,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 10,
    seed: int = 0,
) -> Benchmark | Benchmarks:
    """Measure one .tflite or .onnx file, or compare several.

    Each file is loaded in a process of its own. Several files are measured in turn, one invocation of each, and each
    round begins with another file, so that a machine that becomes slower affects all files equally. Only invocations
    are timed, not the copying of inputs.

    Args:
        file_or_files: A file, or a list of files.
        device: The device to run on. The only one is "local", this machine.
        threads: The number of CPU threads for the runtime.
        runs: The number of measured invocations of each file.
        warmup: The number of invocations of each file before them.
        seed: The seed of the random inputs: normally distributed floats, or integers in the range of their type. A
            dynamic axis has size 1.

    Returns:
        A `Benchmark`, or for a list of files a `Benchmarks` with one `Benchmark` for each, in the same order.

    Raises:
        ValueError: An argument is out of range, or a file is empty, truncated, corrupt, or not for this runtime.
        OSError: A file is missing or cannot be read.
        ImportError: No runtime for a file is installed. The message gives the pip commands.
        RuntimeError: A file crashed the runtime. The message names the file.
    """
    if device not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(map(repr, DEVICES))}; received {device!r}.")
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}; received {value}.")
    one = isinstance(file_or_files, (str, os.PathLike))
    files = [file_or_files] if isinstance(file_or_files, (str, os.PathLike)) else list(file_or_files)
    if not files:
        raise ValueError("The list of files is empty; pass at least one .tflite or .onnx file.")

    with contextlib.ExitStack() as stack:
        interpreters = [stack.enter_context(open_file(file, threads)) for file in files]
        init_ms = [_time_to_first_result(interpreter, seed) for interpreter in interpreters]
        samples = [[] for _ in files]
        for round_ in range(warmup + runs):
            for i in _rotated(len(files), round_):
                ms = interpreters[i].request("invoke")["ms"]
                if round_ >= warmup:
                    samples[i].append(ms)
        results = Benchmarks(
            Benchmark(
                file=interpreter.file,
                device=device,
                threads=threads,
                runtime=interpreter.runtime,
                init_ms=init,
                peak_memory_mb=interpreter.request("memory")["peak_memory_mb"],
                samples_ms=samples_ms,
            )
            for interpreter, init, samples_ms in zip(interpreters, init_ms, samples, strict=True)
        )
    return results[0] if one else results


def _time_to_first_result(interpreter: Interpreter, seed: int) -> float:
    """Prepare the file, run it once, and return `init_ms`."""
    allocate_ms = interpreter.allocate()
    interpreter.request("fill", seed=seed)
    return interpreter.load_ms + allocate_ms + interpreter.request("invoke")["ms"]


def _rotated(count: int, start: int) -> list[int]:
    """Return 0, 1, ..., count - 1 in the cyclic order that begins with `start`."""
    return [(start + i) % count for i in range(count)]
