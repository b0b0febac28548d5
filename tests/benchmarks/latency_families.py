"""Measure how much faster models of most families are in int8 than in float32, and the partitions of each file."""

from keras_vit.utils.tables import table
from tests.benchmarks.weights import random_files

PRECISIONS = ("float32", "dynamic_int8", "hybrid_int8")
TARGETS = {  # Largest allowed p50 of hybrid_int8 over that of float32, on one thread. dynamic_int8 should be at most 1.
    "mobilevit_s": 0.50,
    "mobilevit_xxs": 0.60,
    "mobilevitv2_100": 0.60,
    "efficientvit_b1": 0.52,
    "efficientvit_m2": 0.55,
    "mobile_former_294m": 0.70,
    "mixer_s32": 0.50,
    "convmixer_1024_20": 0.60,
    "cait_xxs24": 0.50,
    "xcit_nano12_p16": 0.55,
    "coatnet_0": 0.50,
    "swin_t": 0.50,
    "swinv2_t": 0.55,
    "convnext_t": 0.60,
    "pvtv2_b0": 0.55,
    "cvt_13": 0.55,
    "nat_mini": 0.80,
    "dinat_mini": 0.80,
    "mvitv2_t": 0.55,
    "t2t_7": 0.80,
    "tnt_s": 0.55,
    "cpvt_ti": 0.55,
}


def main(names=tuple(TARGETS)) -> None:
    from keras_vit import edge

    rows = []
    for name in names:
        with random_files(name, PRECISIONS) as paths:
            p50 = {p: result.p50_ms for p, result in zip(PRECISIONS, edge.benchmark(list(paths.values())), strict=True)}
            audits = {precision: edge.audit(path) for precision, path in paths.items()}
        rows.append(
            (
                name,
                f"{p50['float32']:.2f}",
                f"{p50['dynamic_int8'] / p50['float32']:.3f}",
                f"{p50['hybrid_int8'] / p50['float32']:.3f}",
                f"{TARGETS[name]:.2f}",
                f"{audits['float32'].partitions} and {audits['hybrid_int8'].partitions}",
                str(sum(finding.severity == "error" for audit in audits.values() for finding in audit.findings)),
            )
        )
    header = (
        "model",
        "float32 p50 ms",
        "dynamic",
        "hybrid",
        "target",
        "partitions, float32 and hybrid",
        "errors in audits",
    )
    print(table(header, rows))
