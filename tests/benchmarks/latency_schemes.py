"""Measure full_int8 files against float32 files, and how large the files of each scheme are."""

import os

from keras_vit.utils.tables import table
from tests.benchmarks.weights import random_files

MODELS = (
    "vit_ti16",
    "deit_s16",
    "mobilevit_s",
    "mobilevitv2_100",
    "efficientvit_b1",
    "efficientvit_m2",
    "mobile_former_294m",
)
TARGET = 0.80  # Largest allowed p50 of full_int8 over that of float32, on one thread.
EXPLAINED = 0.60  # Above it, the operators that take longest are printed.
SIZES = {"hybrid_int8": 0.29, "int4_weights": 0.16}  # Largest size of the file of ViT_B16 over that in float32.


def main() -> None:
    from keras_vit import edge

    rows = []
    for name in MODELS:
        with random_files(name, ("float32", "full_int8")) as paths:
            first, second = edge.benchmark(list(paths.values()))
            ratio = second.p50_ms / first.p50_ms
            rows.append((name, f"{first.p50_ms:.2f}", f"{second.p50_ms:.2f}", f"{ratio:.3f}", f"{TARGET:.2f}"))
            print(*rows[-1], flush=True)
            if ratio > EXPLAINED:
                print(edge.profile(paths["full_int8"]))
    print(table(("model", "float32 p50 ms", "full_int8 p50 ms", "ratio", "target"), rows))
    with random_files("vit_b16", ("float32", *SIZES)) as paths:
        sizes = {precision: os.path.getsize(path) for precision, path in paths.items()}
    rows = [(name, f"{sizes[name] / sizes['float32']:.3f}", f"{target:.2f}") for name, target in SIZES.items()]
    print(table(("vit_b16", "size over float32", "target"), rows))
