"""What the two programs called benchmark_model take and print.

LiteRT's program (litert/tools) and TensorFlow Lite's (tflite/tools/benchmark) have the same name, but other flags. Both
print a line "count=... first=... median=..." in microseconds for the warm-up and another for the measured runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# A word of the help text that only one of the two has.
_KINDS = {"use_npu": "LiteRT", "use_xnnpack": "TensorFlow Lite"}


@dataclass(frozen=True)
class Summary:
    """What a run of benchmark_model printed.

    Attributes:
        runs: The number of measured runs.
        median_ms, mean_ms, first_ms: Of the measured runs; the first is that of the warm-up, so the very first.
        init_ms: The time of loading; None if it is not printed.
        peak_memory_mb: The growth of memory in megabytes; None if it is not printed.
        accelerated: Whether the accelerator runs the whole graph; None if that is not printed.
    """

    runs: int
    median_ms: float
    mean_ms: float
    first_ms: float
    init_ms: float | None
    peak_memory_mb: float | None
    accelerated: bool | None


def kind_of(help_text: str) -> str:
    """Return which of the two programs printed a help text, "LiteRT" or "TensorFlow Lite".

    Raises:
        ValueError: Neither of them did.
    """
    for word, kind in _KINDS.items():
        if re.search(rf"--{word}\b", help_text):
            return kind
    raise ValueError("it is neither LiteRT's benchmark_model nor TensorFlow Lite's: its help names none of their flags")


def flags(kind: str, graph: str, threads: int, runs: int, accelerator: str = "cpu", profile: bool = False) -> list[str]:
    """Return the flags that run a file.

    Args:
        kind: "LiteRT" or "TensorFlow Lite".
        graph: The path of the file.
        threads: The number of CPU threads.
        runs: The number of measured runs.
        accelerator: "cpu", "gpu" or "npu". A file that the accelerator does not run as a whole is an error.
        profile: Whether to print the time of each operator.

    Raises:
        ValueError: TensorFlow Lite's program cannot use an NPU.
    """
    common = [f"--graph={graph}", f"--num_threads={threads}", f"--num_runs={runs}", "--min_secs=0", "--warmup_runs=5"]
    common.append("--report_peak_memory_footprint=true")
    if accelerator != "cpu":
        common.append("--require_full_delegation=true")
    if kind == "LiteRT":
        # With the CPU allowed as well, requiring full delegation aborts the program.
        common += [f"--use_cpu={'true' if accelerator == 'cpu' else 'false'}"]
        common += [f"--use_{accelerator}=true"] if accelerator != "cpu" else []
        return common + (["--use_profiler=true"] if profile else [])
    if accelerator == "npu":
        raise ValueError("TensorFlow Lite's benchmark_model cannot use an NPU; LiteRT's can")
    common += ["--use_gpu=true"] if accelerator == "gpu" else []
    return common + (["--enable_op_profiling=true"] if profile else [])


def parsed(printed: str) -> Summary:
    """Return what a run printed.

    Raises:
        ValueError: There is no line of results.
    """
    lines = re.findall(r"count=(\d+) first=(\d+).*?avg=([\d.]+)(?:.*?median=(\d+))?", printed)
    if len(lines) < 2:
        raise ValueError("benchmark_model printed no results")
    (_, first, *_), (count, _, mean, median) = lines[0], lines[-1]
    init = re.search(r"(?:Initialized session in|Model initialization:)\s*([\d.]+)\s*ms", printed)
    memory = re.search(r"Overall footprint:\s*([\d.]+)|overall=([\d.]+)", printed)
    accelerated = None
    if re.search("completely executed by the delegate|Fully accelerated:?\\s+[Tt]rue", printed):
        accelerated = True
    elif re.search(
        "partially executed by the delegate|will not be executed by the delegate|Fully accelerated:?\\s+[Ff]alse",
        printed,
    ):
        accelerated = False
    return Summary(
        runs=int(count),
        # Old programs print no median.
        median_ms=float(median or mean) / 1e3,
        mean_ms=float(mean) / 1e3,
        first_ms=float(first) / 1e3,
        init_ms=float(init.group(1)) if init else None,
        # The program prints units of 2^20 bytes.
        peak_memory_mb=float(memory.group(1) or memory.group(2)) * 2**20 / 1e6 if memory else None,
        accelerated=accelerated,
    )
