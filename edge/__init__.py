"""From a Keras model to a device: quantize, export, prove equal, audit, measure."""

from keras_vit.edge.conversion.export import export
from keras_vit.edge.devices.audit import Audit, Finding, audit
from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks, benchmark
from keras_vit.edge.devices.verify import Verification, verify
from keras_vit.edge.quantization.quantize import quantize_aware

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
