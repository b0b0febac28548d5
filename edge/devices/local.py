"""The CPU of this machine."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from keras_vit.edge.devices.device import Device, Need
from keras_vit.edge.devices.interpreter import Interpreter, profiled
from keras_vit.edge.devices.links import LocalLink

# The module that profiles a file, here and on boards.
PROFILER = "keras_vit.edge.devices.profile_runner"


class LocalDevice(Device):
    """The CPU of this machine: LiteRT for .tflite files, and onnxruntime for .onnx files."""

    form = "local"
    summary = "the CPU of this machine"

    def __init__(self, name: str = "local"):
        if name != "local":
            raise ValueError(f"device must be 'local' for this machine; received {name!r}.")
        super().__init__(name)

    @classmethod
    def discovered(cls) -> list[str]:
        return ["local"]

    def open(self, file: str | os.PathLike, threads: int = 1, cores: Sequence[int] = ()) -> Interpreter:
        onnx = os.fspath(file).endswith(".onnx")
        command = [sys.executable, "-m", "keras_vit.edge.devices.onnx_runner"] if onnx else None
        return Interpreter(file, threads, command, cores=cores)

    def profile(self, file: str, runs: int) -> dict:
        return profiled(LocalLink([sys.executable, "-m", PROFILER]), file, runs)

    def needs(self) -> list[Need]:
        return [
            installed("ai-edge-litert", "ai_edge_litert", 'pip install "keras-vit[edge]"', "for .tflite files"),
            installed("onnxruntime", "onnxruntime", 'pip install "keras-vit[onnx]"', "for .onnx files", optional=True),
        ]


def installed(package: str, module: str, remedy: str, purpose: str = "", optional: bool = False) -> Need:
    """Return whether a package of this Python is installed, without importing it."""
    found = None
    if importlib.util.find_spec(module) is not None:
        try:
            found = f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            found = package
    return Need(f"{package} {purpose}".strip(), found, remedy, optional)
