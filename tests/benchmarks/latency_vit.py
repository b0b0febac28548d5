"""Measure how much faster than float32 a ViT-Ti/16 is in each precision."""

import os
import tempfile

import numpy as np

from keras_vit.utils.tables import table

PRECISIONS = ("float32", "float16", "dynamic_int8", "hybrid_int8")
TARGET = 0.42  # Largest allowed p50 of hybrid_int8 over that of float32, on one thread.


def main() -> None:
    import keras_vit
    from keras_vit import edge
    from tests.benchmarks.weights import randomize

    model = keras_vit.ViT_Ti16()
    randomize(model)
    images = np.random.default_rng(0).standard_normal((8, *model.input_shape[1:])).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        paths = {precision: os.path.join(folder, f"{precision}.tflite") for precision in PRECISIONS}
        for precision, path in paths.items():
            calibration = {"calibration_data": images} if precision == "hybrid_int8" else {}
            edge.export(model, path, precision=precision, **calibration)
        results = edge.benchmark(list(paths.values()))
        partitions = [(name, str(edge.audit(path).partitions)) for name, path in paths.items()]
    print(results)
    print(table(("precision", "XNNPACK partitions"), partitions))
    ratio = results[PRECISIONS.index("hybrid_int8")].p50_ms / results[0].p50_ms
    print(f"hybrid_int8 takes {ratio:.3f} of float32's time; the target is at most {TARGET}")
