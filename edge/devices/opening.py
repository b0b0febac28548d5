"""Opening a file with the runtime of its kind."""

from __future__ import annotations

import os
import sys

from keras_vit.edge.devices.interpreter import Interpreter

SUFFIXES = (".tflite", ".onnx")


def open_file(file: str | os.PathLike, threads: int = 1) -> Interpreter:
    """Return the interpreter of a file: onnxruntime for an .onnx file, and TensorFlow Lite for any other.

    Args:
        file: The file.
        threads: The number of CPU threads that the runtime may use.
    """
    onnx = os.fspath(file).endswith(".onnx")
    command = [sys.executable, "-m", "keras_vit.edge.devices.onnx_runner"] if onnx else None
    return Interpreter(file, threads, command)
