"""Opening a file on a device with the runtime of its kind."""

from __future__ import annotations

import os
from collections.abc import Sequence

from keras_vit.edge.devices.device import find_device
from keras_vit.edge.devices.interpreter import Interpreter


def open_file(
    file: str | os.PathLike, threads: int = 1, device: str = "local", cores: Sequence[int] = ()
) -> Interpreter:
    """Return the interpreter of a file: onnxruntime for an .onnx file, and TensorFlow Lite for any other.

    Args:
        file: The file.
        threads: The number of CPU threads that the runtime may use.
        device: The name of the device.
        cores: The CPU cores that the process may use; empty for all.
    """
    return find_device(device).open(file, threads, cores)
