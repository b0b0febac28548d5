"""Build, export, verify and measure a set of models in several precisions on a device, and continue after a break.

The weights are random, which a latency does not depend on. How near a file is to its model is measured as a
signal-to-noise ratio; it is that of random weights, so it compares precisions, not models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks, benchmark
from keras_vit.edge.devices.device import find_device
from keras_vit.edge.devices.verify import verify
from keras_vit.utils.files import replacing
from keras_vit.utils.tables import table

# The smallest published size of each family that is made for phones, and the small plain transformers.
SUITES = {
    "mobile": (
        "mobilevit_xxs",
        "mobilevitv2_050",
        "mobile_former_26m",
        "efficientvit_b0",
        "efficientvit_m0",
        "deit_ti16",
    )
}
PRECISIONS = ("float32", "float16", "dynamic_int8", "hybrid_int8", "full_int8", "int8_int16")
_IMAGES = 8


@dataclass(frozen=True)
class SuiteResult:
    """The files of a suite. It prints as a table.

    Attributes:
        benchmarks: The measurements of each file.
        snr_db: The signal-to-noise ratio of each file against its model in dB, by the path of the file.
        errors: What went wrong, by the name of the file: a precision that a model cannot be exported in, or a file that
            the device does not run.
    """

    benchmarks: Benchmarks
    snr_db: dict[str, float]
    errors: dict[str, str]

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        return {**self.benchmarks.to_dict(), "snr_db": self.snr_db, "errors": self.errors}

    def __str__(self) -> str:
        rows = []
        for each in self.benchmarks:
            memory = "-" if each.peak_memory_mb is None else f"{each.peak_memory_mb:.1f}"
            size = "-" if each.file_bytes is None else f"{each.file_bytes / 1e6:.2f}"
            snr = f"{self.snr_db[each.file]:.1f}" if each.file in self.snr_db else "-"
            rows.append((os.path.basename(each.file), f"{each.p50_ms:.2f}", f"{each.p99_ms:.2f}", size, memory, snr))
        lines = [table(("file", "p50 ms", "p99 ms", "file MB", "memory MB", "SNR dB"), rows)]
        return "\n".join([*lines, *(f"{name}: {error}" for name, error in self.errors.items())])


def run_suite(
    models: str | Sequence[str],
    folder: str | os.PathLike,
    device: str = "local",
    *,
    precisions: Sequence[str] = PRECISIONS,
    threads: int = 1,
    runs: int = 50,
    progress: Callable[[str], None] = lambda sentence: None,
) -> SuiteResult:
    """Build, export, verify and measure models. The same call continues after an interruption.

    Args:
        models: The name of a suite, or names of models as `keras_vit.list_models` gives them.
        folder: Where files and results are kept.
        device: The device to run on.
        precisions: The precisions to export in.
        threads: The number of CPU threads.
        runs: The least number of runs of each file.
        progress: Called with a sentence about what is done.

    Raises:
        ValueError: There is no such suite, model, precision or device.
        OSError: The folder cannot be written, or the device cannot be reached.
    """
    if isinstance(models, str):
        if models not in SUITES:
            raise ValueError(f"The suites are {', '.join(map(repr, SUITES))}; received {models!r}.")
        models = SUITES[models]
    find_device(device)
    folder = Path(folder)
    store = folder / "results.json"
    found = json.loads(store.read_text()) if store.exists() else {}
    for model in models:
        key = json.dumps([model, device, threads, list(precisions)])
        if key not in found:
            progress(model)
            found[key] = _measured(model, folder, device, precisions, threads, runs, progress)
            with replacing(store) as partial:
                partial.write_text(json.dumps(found))
    wanted = [found[json.dumps([model, device, threads, list(precisions)])] for model in models]
    return SuiteResult(
        Benchmarks(Benchmark.from_dict(entry) for part in wanted for entry in part["benchmarks"]),
        {file: value for part in wanted for file, value in part["snr_db"].items()},
        {name: error for part in wanted for name, error in part["errors"].items()},
    )


def _measured(
    name: str,
    folder: Path,
    device: str,
    precisions: Sequence[str],
    threads: int,
    runs: int,
    progress: Callable[[str], None],
) -> dict:
    import keras

    import keras_vit
    from keras_vit.edge.conversion.export import export
    from keras_vit.edge.quantization.schemes import SCHEMES

    keras.backend.clear_session()
    model = keras_vit.create_model(name)
    _randomize(model)
    images = np.random.default_rng(0).standard_normal((_IMAGES, *model.input_shape[1:])).astype(np.float32)
    files, snr_db, errors = [], {}, {}
    for precision in precisions:
        path = str(folder / f"{name}.{precision}.tflite")
        progress(f"{name} in {precision}")
        ranges = precision in SCHEMES and SCHEMES[precision].needs_ranges
        try:
            if not os.path.exists(path):
                export(model, path, precision, calibration_data=images if ranges else None, verify=False)
            snr_db[path] = verify(model, path, images[:2]).snr_db
            benchmark(path, device, threads=threads, runs=1, warmup=0)  # A file that the device refuses stops no other.
        except (ValueError, RuntimeError) as error:
            errors[os.path.basename(path)] = str(error)
        else:
            files.append(path)
    progress(f"measuring {name}")
    measured = benchmark(files, device, threads=threads, runs=runs) if files else Benchmarks()
    assert isinstance(measured, Benchmarks)
    return {"benchmarks": [each.to_dict() for each in measured], "snr_db": snr_db, "errors": errors}


def _randomize(model) -> None:
    """Give every weight a random value: a gamma of zero lets a converter remove its branch."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        values = 0.05 * generator.standard_normal(weight.shape)
        near_one = any(word in weight.name for word in ("gamma", "scale", "variance"))
        weight.assign(1 + values if near_one else values)
