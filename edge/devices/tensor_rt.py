"""What TensorRT, the runtime of Jetson boards, does not take in an .onnx file, by its rules.

Source: TensorRT's developer guide, "Working with quantized types", and the operators' support matrix of onnx-tensorrt.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import numpy as np

from keras_vit.utils.missing import needs

# TensorRT 10 (JetPack 6) takes these; TensorRT 11 (JetPack 7) takes newer ones as well.
_OPSETS = range(9, 21)


def onnx_problems(file: str | os.PathLike) -> tuple[Counter[str], list[tuple[str, str, str, str]]]:
    """Return the operators of an .onnx file by number, and (severity, operator, node, reason) for each problem.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not an .onnx file.
    """
    with needs("onnx", "reading ONNX files", "onnx"):
        import onnx
    path = os.fspath(file)
    try:
        model = onnx.load(path)
    except OSError as error:
        raise type(error)(f"{path} cannot be opened: {error.strerror}.") from None
    except Exception as error:
        raise ValueError(f"{path} is not an .onnx file: {error}") from None
    return Counter(node.op_type for node in model.graph.node), list(_problems(model))


def _problems(model) -> Iterator[tuple[str, str, str, str]]:
    import onnx

    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset not in _OPSETS:
        yield (
            "error" if opset < _OPSETS[0] else "warning",
            "",
            "",
            f"opset {opset}; TensorRT 10 takes {_OPSETS[0]} to {_OPSETS[-1]}",
        )
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        if any(not size.dim_value for size in sizes[1:]):
            yield (
                "warning",
                "INPUT",
                value.name,
                "its shape is dynamic; trtexec needs --minShapes, --optShapes and --maxShapes",
            )
    constants = {constant.name: constant for constant in model.graph.initializer}
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield (
                "error",
                node.op_type,
                node.name,
                f"it is of the domain {node.domain!r}; TensorRT needs a plugin for it",
            )
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            zero = constants.get(node.input[2])
            if zero is None:
                continue
            if zero.data_type == onnx.TensorProto.UINT8:
                yield "error", node.op_type, node.name, "uint8; TensorRT takes int8 only, so export in symmetric_int8"
            elif np.any(onnx.numpy_helper.to_array(zero)):
                yield (
                    "error",
                    node.op_type,
                    node.name,
                    "its zero point is not 0; TensorRT needs 0, so export in symmetric_int8",
                )
