"""From a Keras model to a device: quantize, export, prove equal, audit, measure."""

from keras_vit.edge.audit import Audit, Finding, audit
from keras_vit.edge.benchmark import Benchmark, Benchmarks, benchmark
from keras_vit.edge.export import export
from keras_vit.edge.quantize import quantize_aware
from keras_vit.edge.verify import Verification, verify

__all__ = [
    "Audit",
    "Benchmark",
    "Benchmarks",
    "Finding",
    "Verification",
    "audit",
    "benchmark",
    "export",
    "quantize_aware",
    "verify",
]
