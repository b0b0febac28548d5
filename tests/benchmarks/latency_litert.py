"""Hold `edge.benchmark` against LiteRT's own benchmark on the same files, alternating, and against itself."""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_vit.utils.tables import table
from tests.benchmarks.weights import random_files

PRECISIONS = ("float32", "hybrid_int8")
TIMES, RUNS = 5, 200
TARGET = 0.10  # The largest allowed difference of the two medians.


def litert_p50(file: str) -> float:
    """Return the median that litert-benchmark measures on one thread, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        program = str(Path(sys.executable).parent / "litert-benchmark")
        flags = ["--num_runs", str(RUNS), "--warmup_runs", "20", "--num_threads", "1", "--result_json", str(result)]
        subprocess.run([program, "--model", file, *flags], check=True, capture_output=True)
        return json.loads(result.read_text())["latency"]["median_ms"]


def main() -> None:
    from keras_vit import edge

    rows = []
    with random_files("vit_ti16", PRECISIONS) as paths:
        for precision, file in paths.items():
            ours, theirs = [], []
            for _ in range(TIMES):
                ours.append(edge.benchmark(file, runs=RUNS))
                theirs.append(litert_p50(file))
            a, b = float(np.median([each.p50_ms for each in ours])), float(np.median(theirs))
            pairs = list(itertools.pairwise(ours))
            overlapping = sum(
                x.interval().low <= y.interval().high and y.interval().low <= x.interval().high for x, y in pairs
            )
            rows.append((precision, f"{a:.3f}", f"{b:.3f}", f"{a / b - 1:+.1%}", f"{overlapping} of {len(pairs)}"))
    print(table(("precision", "edge.benchmark ms", "litert-benchmark ms", "difference", "twice in a row agrees"), rows))
    print(f"the target is a difference of at most {TARGET:.0%}")
