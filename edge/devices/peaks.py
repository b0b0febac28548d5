"""What a device can do at best: its measured rate of multiplying matrices in a precision, and its memory bandwidth."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_vit.edge.devices.device import Device
from keras_vit.utils.missing import needs

# A matrix product large enough to be bound by arithmetic, and small enough for the caches of a board.
_ROWS, _WIDTH = 256, 1024
_RUNS = 20

PRECISIONS = ("float32", "dynamic_int8", "int8")


@dataclass(frozen=True)
class Peaks:
    """The limits of a device with one thread.

    Attributes:
        gmacs_per_s: The rate of a large matrix product in each precision, in 10^9 multiply-accumulates per second.
        gb_per_s: The bytes per second that copying a large array reads and writes, in 10^9.
    """

    gmacs_per_s: dict[str, float]
    gb_per_s: float


def measure_peaks(device: Device, gb_per_s: float) -> Peaks:
    """Measure the rate of a device by running a file with a single matrix product in each precision.

    Args:
        device: The device.
        gb_per_s: Its memory bandwidth.
    """
    rates = {}
    macs = _ROWS * _WIDTH * _WIDTH
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = os.path.join(folder, f"{precision}.tflite")
            with open(path, "wb") as file:
                file.write(matrix_product(precision))
            with device.open(path) as interpreter:
                interpreter.allocate()
                interpreter.request("fill")
                samples = interpreter.request("time", runs=_RUNS)["samples_ms"]
            rates[precision] = macs / min(samples) / 1e6
    return Peaks(rates, gb_per_s)


def matrix_product(precision: str) -> bytes:
    """Return a .tflite file that multiplies its input (256, 1024) by constant weights.

    Args:
        precision: One of `PRECISIONS`.

    Raises:
        ImportError: ai-edge-litert, which has the file format's schema, is not installed.
    """
    with needs("ai-edge-litert", "measuring what a device can do", "edge"):
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema
    random = np.random.default_rng(0)
    integer_weights, integer_inputs = precision != "float32", precision == "int8"
    weights: Any = random.standard_normal((_WIDTH, _WIDTH)).astype(np.float32)
    if integer_weights:
        weights = random.integers(-127, 127, (_WIDTH, _WIDTH), np.int8)

    def tensor(name: str, shape: tuple[int, int], buffer: int, scales: list[float] | None) -> Any:
        grid = None
        if scales is not None:
            grid = schema.QuantizationParametersT(
                scale=np.array(scales, np.float32), zeroPoint=np.zeros(len(scales), np.int64), quantizedDimension=0
            )
        kind = schema.TensorType.FLOAT32 if scales is None else schema.TensorType.INT8
        return schema.TensorT(name=name, shape=np.array(shape, np.int32), type=kind, buffer=buffer, quantization=grid)

    tensors = [
        tensor("input", (_ROWS, _WIDTH), 0, [0.02] if integer_inputs else None),
        tensor("weights", (_WIDTH, _WIDTH), 1, [0.01] * (_WIDTH if integer_inputs else 1) if integer_weights else None),
        tensor("output", (_ROWS, _WIDTH), 0, [0.5] if integer_inputs else None),
    ]
    fully_connected = schema.BuiltinOperator.FULLY_CONNECTED
    operator = schema.OperatorT(
        opcodeIndex=0,
        inputs=np.array([0, 1, -1], np.int32),
        outputs=np.array([2], np.int32),
        builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
        builtinOptions=schema.FullyConnectedOptionsT(asymmetricQuantizeInputs=precision == "dynamic_int8"),
    )
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=np.array([0], np.int32),
        outputs=np.array([2], np.int32),
        operators=[operator],
        name="main",
    )
    version = {"float32": 1, "dynamic_int8": 9, "int8": 5}[precision]
    code = schema.OperatorCodeT(deprecatedBuiltinCode=fully_connected, builtinCode=fully_connected, version=version)
    data = np.frombuffer(weights.tobytes(), np.uint8)
    model = schema.ModelT(
        version=3,
        operatorCodes=[code],
        subgraphs=[graph],
        buffers=[schema.BufferT(), schema.BufferT(data=data)],
        description="a matrix product",
    )
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
