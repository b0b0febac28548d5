"""An NPU without the chip: LiteRT's ahead-of-time compiler, and where there is one the vendor's emulation.

`npu:SM8750` compiles a file for that chip by LiteRT's plugin with Qualcomm's libraries, and runs the result on
Qualcomm's x86 emulation of the Hexagon processor (HTP), which gives the chip's outputs, but not its times.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence

from keras_vit.edge.devices.compilation import QUALCOMM_LICENSE, compile, plugin_needs, vendor_of
from keras_vit.edge.devices.device import Device, Need
from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.devices.links import LocalLink
from keras_vit.edge.devices.local import installed


class NpuDevice(Device):
    """A Qualcomm NPU, emulated on this machine. Its outputs are those of the chip; its times mean nothing."""

    form = "npu:SOC"
    summary = "the NPU of a Qualcomm chip such as SM8750, emulated on this machine (outputs only)"
    measures_time = False

    def __init__(self, name: str):
        super().__init__(name)
        self.soc = name.removeprefix("npu:")
        if vendor_of(self.soc) != "qualcomm":
            raise ValueError(f"{name!r}: only the NPUs of Qualcomm's chips, such as npu:SM8750, can be emulated here.")

    def open(self, file: str | os.PathLike, threads: int = 1, cores: Sequence[int] = ()) -> Interpreter:
        with tempfile.TemporaryDirectory() as folder:
            compiled = os.path.join(folder, "compiled.tflite")
            compile(file, compiled, self.soc)
            command = [sys.executable, "-m", "keras_vit.edge.devices.npu_runner", self.soc, os.fspath(file)]
            link = LocalLink(command)
            interpreter = Interpreter(compiled, threads, link=link, device=self.name, cores=cores)
        interpreter.file = os.fspath(file)
        return interpreter

    def needs(self) -> list[Need]:
        return [
            installed("ai-edge-litert", "ai_edge_litert", 'pip install "keras-vit[edge]"'),
            installed("onnx", "onnx", 'pip install "keras-vit[qualcomm]"'),
            *plugin_needs("qualcomm"),
            Need("Qualcomm's license", QUALCOMM_LICENSE, optional=True),
        ]
