"""Measure how much longer `import keras_vit` takes than `import keras`."""

import statistics
import subprocess
import sys

from keras_vit.utils.tables import table

PAIRS = 9
TARGET = 1.2  # Largest allowed ratio to the import time of Keras.

_SCRIPT = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def _seconds(module: str) -> float:
    command = [sys.executable, "-c", _SCRIPT.format(module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    modules = ("keras", "keras_vit")
    for module in modules:  # The first import reads the files from the disk.
        _seconds(module)
    pairs = [tuple(map(_seconds, modules)) for _ in range(PAIRS)]
    rows = [
        (module, f"{statistics.median(seconds):.2f}")
        for module, seconds in zip(modules, zip(*pairs, strict=True), strict=True)
    ]
    print(table(("import", "median s"), rows))
    ratio = statistics.median(ours / keras for keras, ours in pairs)
    print(f"keras_vit takes {ratio:.2f} times as long as Keras; the target is at most {TARGET}")
