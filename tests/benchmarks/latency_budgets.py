"""Count how often latency budgets catch a file that is 15 % slower, and blame the same file, on a busy machine."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMES = 40
TARGETS = (38, 1)  # At least so many of 40 slower files are caught, and at most so many equal files are blamed.
_SLOWER, _BUDGET = 1.15, 1.07
# Shorter than a budget's default, so that all of it takes less than ten minutes; it makes the decisions harder.
_SECONDS = 1.0
_DEPTH = 20

# Another program on the machine: it computes for up to 2 seconds, and rests for up to 1.
_BUSY = """
import random, time
while True:
    end = time.perf_counter() + random.uniform(0.05, 2)
    while time.perf_counter() < end:
        sum(range(1000))
    time.sleep(random.uniform(0, 1))
"""


@contextlib.contextmanager
def busy_core():
    """Keep a core busy, on and off."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def write_files(folder: Path) -> tuple[str, str, str]:
    """Write a file, the same file again, and one with 15 % more blocks."""
    import keras_vit
    from keras_vit import edge

    paths = []
    for depth in (_DEPTH, round(_DEPTH * _SLOWER)):
        model = keras_vit.ViT(
            input_shape=(64, 64, 3), patch_size=8, width=96, depth=depth, num_heads=3, classes=10, name="vit"
        )
        paths.append(edge.export(model, folder / f"depth_{depth}.tflite", "float32"))
    shutil.copy(paths[0], folder / "again.tflite")
    return paths[0], str(folder / "again.tflite"), paths[1]


def main() -> None:
    from keras_vit.edge.devices.budgets import Budget, check_budget

    with tempfile.TemporaryDirectory() as name:
        file, again, slower = write_files(Path(name))
        failed = {again: 0, slower: 0}
        ratios = {again: [], slower: []}
        begin = time.monotonic()
        with busy_core():
            for _ in range(TIMES):
                for candidate in failed:
                    outcome = check_budget(Budget(candidate, than=file, ratio=_BUDGET, seconds=_SECONDS))
                    failed[candidate] += not outcome.kept
                    ratios[candidate].append(outcome.measured["ratio"])
    print(f"caught {failed[slower]} of {TIMES} slower files; the target is at least {TARGETS[0]}")
    print(f"blamed {failed[again]} of {TIMES} equal files; the target is at most {TARGETS[1]}")
    for what, path in (("slower", slower), ("equal", again)):
        print(f"ratios of the {what} file: {min(ratios[path]):.3f} to {max(ratios[path]):.3f}")
    print(f"{(time.monotonic() - begin) / TIMES / 2:.1f} s for each test")
