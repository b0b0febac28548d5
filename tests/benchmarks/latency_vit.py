"""Measure how much faster than float32 a ViT-Ti/16 is in each precision."""

from keras_vit.utils.tables import table
from tests.benchmarks.weights import random_files

PRECISIONS = ("float32", "float16", "dynamic_int8", "hybrid_int8")
TARGET = 0.42  # Largest allowed p50 of hybrid_int8 over that of float32, on one thread.


def main() -> None:
    from keras_vit import edge

    with random_files("vit_ti16", PRECISIONS) as paths:
        results = edge.benchmark(list(paths.values()))
        partitions = [(name, str(edge.audit(path).partitions)) for name, path in paths.items()]
    print(results)
    print(table(("precision", "XNNPACK partitions"), partitions))
    ratio = results[PRECISIONS.index("hybrid_int8")].p50_ms / results[0].p50_ms
    print(f"hybrid_int8 takes {ratio:.3f} of float32's time; the target is at most {TARGET}")
