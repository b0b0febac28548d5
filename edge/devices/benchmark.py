"""Measures how long .tflite files take on a device, and how much memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.utils.tables import table

# The devices a file can be measured on.
DEVICES = ("local",)


@dataclass(frozen=True)
class Benchmark:
    """What was measured of one file; every time is in milliseconds.

    Attributes:
        file, device, threads: what was measured, and where.
        runtime: the runtime's name and version.
        init_ms: from the closed file to its first answer: reading, allocation (where weights are packed) and
            the first invocation.
        peak_memory_mb: by how many megabytes (10^6 bytes) the process's peak resident memory grew since
            before the file was opened; None where the device does not tell.
        samples_ms: each measured invocation, in the order they ran.
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
        return float(np.percentile(self.samples_ms, 50))

    @property
    def p90_ms(self) -> float:
        return float(np.percentile(self.samples_ms, 90))

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.samples_ms, 99))

    def to_dict(self) -> dict:
        """Everything that was measured, ready for JSON."""
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
    """The benchmarks of several files, measured in turn; it prints as one table."""

    def to_dict(self) -> dict:
        """Everything that was measured, ready for JSON."""
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
    """Measures a .tflite file, or several against each other.

    Each file is opened in a process of its own. Several are measured in turn, one invocation of each, and
    which comes first changes with every round, so that a machine that slows down slows all alike. Only
    invocations are timed, not the copying of inputs.

    Args:
        file_or_files: the file, or a list of files.
        device: where to run; "local" is this machine.
        threads: CPU threads for the runtime.
        runs: measured invocations of each file.
        warmup: invocations of each file before them.
        seed: of the random inputs: normal floats, integers over their type's range; a dynamic axis is 1.

    Returns:
        A Benchmark, or for a list a Benchmarks, which is a list of them in the same order.

    Raises:
        ValueError: an argument is out of range; a file is empty, truncated, corrupt or not for this runtime.
        OSError: a file is missing or cannot be read.
        ImportError: no TensorFlow Lite runtime is installed; the message has the pip lines.
        RuntimeError: a file crashed the runtime; the message names it.
    """
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}; these exist: {', '.join(map(repr, DEVICES))}.")
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be {least} or more.")
    one = isinstance(file_or_files, (str, os.PathLike))
    files = [file_or_files] if one else list(file_or_files)
    if not files:
        raise ValueError("The list of files is empty; give at least one .tflite file.")

    with contextlib.ExitStack() as stack:
        interpreters = [stack.enter_context(Interpreter(file, threads)) for file in files]
        init_ms = [_first_answer(interpreter, seed) for interpreter in interpreters]
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


def _first_answer(interpreter: Interpreter, seed: int) -> float:
    """Makes the file ready and runs it once; gives `init_ms`."""
    allocate_ms = interpreter.allocate()
    interpreter.request("fill", seed=seed)
    return interpreter.load_ms + allocate_ms + interpreter.request("invoke")["ms"]


def _rotated(count: int, start: int) -> list[int]:
    """0, 1, ... count - 1, beginning at `start` and going round."""
    return [(start + i) % count for i in range(count)]
