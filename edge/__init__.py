"""From a Keras model to a device: quantize, export, verify, audit, and benchmark.

Each function is imported when it is first used, so that a file can be audited without importing Keras or TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

from keras_vit._registration import when_imported

if TYPE_CHECKING:  # For editors and type checkers; a test holds it against the table below.
    from keras_vit.edge.conversion.description import weights_hash
    from keras_vit.edge.conversion.export import export
    from keras_vit.edge.devices.audit import Audit, Finding, audit
    from keras_vit.edge.devices.benchmark import Benchmark, Benchmarks, benchmark
    from keras_vit.edge.devices.comparison import Change, Comparison, compare, load_benchmarks
    from keras_vit.edge.devices.compilation import Compilation, CompilationError, compile
    from keras_vit.edge.devices.profiling import Profile, profile
    from keras_vit.edge.devices.verify import Verification, verify
    from keras_vit.edge.files.c_array import write_c_array
    from keras_vit.edge.files.description import Description, ImagePreprocessing
    from keras_vit.edge.files.info import FileInfo, file_info
    from keras_vit.edge.files.snippets import snippet
    from keras_vit.edge.onnx.builder import OnnxBuilder
    from keras_vit.edge.onnx.writers import register_onnx_writer
    from keras_vit.edge.quantization.freezing import FreezeRanges, freeze_ranges
    from keras_vit.edge.quantization.keep_accuracy import AccuracyReport
    from keras_vit.edge.quantization.quantize import quantize_aware
    from keras_vit.edge.quantization.schemes import SCHEMES, Scheme
    from keras_vit.edge.quantization.sensitivity import LayerCost, Sensitivity, sensitivity

_MODULES = {
    "keras_vit.edge.conversion.description": ("weights_hash",),
    "keras_vit.edge.conversion.export": ("export",),
    "keras_vit.edge.devices.audit": ("Audit", "Finding", "audit"),
    "keras_vit.edge.devices.benchmark": ("Benchmark", "Benchmarks", "benchmark"),
    "keras_vit.edge.devices.compilation": ("Compilation", "CompilationError", "compile"),
    "keras_vit.edge.devices.comparison": ("Change", "Comparison", "compare", "load_benchmarks"),
    "keras_vit.edge.devices.profiling": ("Profile", "profile"),
    "keras_vit.edge.devices.verify": ("Verification", "verify"),
    "keras_vit.edge.files.c_array": ("write_c_array",),
    "keras_vit.edge.files.description": ("Description", "ImagePreprocessing"),
    "keras_vit.edge.files.info": ("FileInfo", "file_info"),
    "keras_vit.edge.files.snippets": ("snippet",),
    "keras_vit.edge.onnx.builder": ("OnnxBuilder",),
    "keras_vit.edge.onnx.writers": ("register_onnx_writer",),
    "keras_vit.edge.quantization.freezing": ("FreezeRanges", "freeze_ranges"),
    "keras_vit.edge.quantization.keep_accuracy": ("AccuracyReport",),
    "keras_vit.edge.quantization.quantize": ("quantize_aware",),
    "keras_vit.edge.quantization.schemes": ("SCHEMES", "Scheme"),
    "keras_vit.edge.quantization.sensitivity": ("LayerCost", "Sensitivity", "sensitivity"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SCHEMES",
    "AccuracyReport",
    "Audit",
    "Benchmark",
    "Benchmarks",
    "Change",
    "Comparison",
    "Compilation",
    "CompilationError",
    "Description",
    "FileInfo",
    "Finding",
    "FreezeRanges",
    "ImagePreprocessing",
    "LayerCost",
    "OnnxBuilder",
    "Profile",
    "Scheme",
    "Sensitivity",
    "Verification",
    "audit",
    "benchmark",
    "compare",
    "compile",
    "export",
    "file_info",
    "freeze_ranges",
    "load_benchmarks",
    "profile",
    "quantize_aware",
    "register_onnx_writer",
    "sensitivity",
    "snippet",
    "verify",
    "weights_hash",
    "write_c_array",
]


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_vit.edge' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_layers() -> None:
    """Let Keras load quantized models: importing their layers registers them."""
    for module in ("fake_quant", "integer_layers"):
        importlib.import_module(f"keras_vit.edge.quantization.{module}")


when_imported("keras", _register_layers)
