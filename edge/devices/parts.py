"""Which part of a transformer an operator belongs to, and how much it computes and moves."""

from __future__ import annotations

import math
import re

from keras_vit.edge.files.tflite_graph import Operator, Tensor

PARTS = (
    "embedding",
    "projections",
    "attention products",
    "softmax",
    "normalization",
    "MLP",
    "convolutions",
    "activations and sums",
    "layout",
    "quantize and dequantize",
    "head",
)

_QUANTIZE = frozenset(("QUANTIZE", "DEQUANTIZE", "CAST"))
_LAYOUT = frozenset(
    """RESHAPE TRANSPOSE SLICE STRIDED_SLICE CONCATENATION PAD PADV2 SPLIT SPLIT_V PACK UNPACK EXPAND_DIMS SQUEEZE
    GATHER BROADCAST_TO TILE SHAPE FILL REVERSE_V2 SPACE_TO_DEPTH DEPTH_TO_SPACE""".split()  # noqa: SIM905
)
_PRODUCTS = frozenset(("FULLY_CONNECTED", "CONV_2D", "BATCH_MATMUL"))
_CONVOLUTIONS = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"))
_BYTES = {
    "FLOAT32": 4.0,
    "INT32": 4.0,
    "INT64": 8.0,
    "FLOAT16": 2.0,
    "INT16": 2.0,
    "INT8": 1.0,
    "UINT8": 1.0,
    "INT4": 0.5,
}


def part_of(operator: Operator) -> str:
    """Return the part of a transformer that an operator belongs to, one of `PARTS`.

    The name of its layer decides where the kind of the operator leaves a choice.
    """
    name, path = operator.name, operator.layer.lower()
    words = set(re.split(r"[^a-z]+", path))
    if name in _QUANTIZE:
        return "quantize and dequantize"
    if name == "SOFTMAX" or "softmax" in words:
        return "softmax"
    if name == "BATCH_MATMUL" and not any(tensor.constant for tensor in operator.inputs):
        return "attention products"
    if name in _LAYOUT:
        return "layout"
    if re.search(r"norm(?!al)|normalization", path):
        return "normalization"
    if re.search(r"patch_embedding|position_embedding|class_token|\btokens?\b|conv_embedding", path):
        return "embedding"
    if "mlp" in words or "ffn" in words:
        return "MLP"
    if name in _PRODUCTS and words & {"query", "key", "value", "qkv", "projection", "attention", "context", "scores"}:
        return "projections"
    if "head" in words or "classifier" in words or re.search(r"\bhead", path):
        return "head"
    if name in _CONVOLUTIONS:
        return "convolutions"
    return "projections" if name in _PRODUCTS else "activations and sums"


def macs_of(operator: Operator) -> int:
    """Return the multiply-accumulates of an operator; 0 for one that multiplies no matrices."""
    if operator.name not in _PRODUCTS | _CONVOLUTIONS or len(operator.inputs) < 2:
        return 0
    outputs = _elements(operator.outputs[0])
    first, second = operator.inputs[0].shape, operator.inputs[1].shape
    if operator.name == "BATCH_MATMUL":
        return outputs * abs(first[-2] if operator.options is not None and operator.options.adjX else first[-1])
    if operator.name == "FULLY_CONNECTED":
        return outputs * second[-1]
    if operator.name == "DEPTHWISE_CONV_2D":
        return outputs * second[1] * second[2]
    if operator.name == "TRANSPOSE_CONV":  # Its inputs are the shape, the weights, and the map.
        weights, image = operator.inputs[1].shape, operator.inputs[2]
        return _elements(image) * weights[0] * weights[1] * weights[2]
    return outputs * math.prod(second[1:])


def bytes_of(operator: Operator) -> float:
    """Return the bytes that an operator reads and writes at least: its inputs, weights, and outputs once."""
    return sum(_elements(tensor) * _BYTES.get(tensor.dtype, 4.0) for tensor in (*operator.inputs, *operator.outputs))


def precision_of(operator: Operator) -> str:
    """Return in which of the precisions of `peaks.PRECISIONS` an operator is computed."""
    if operator.inputs and operator.inputs[0].dtype in ("INT8", "UINT8", "INT16"):
        return "int8"
    weights = [tensor for tensor in operator.inputs[1:] if tensor.constant]
    dynamic = operator.name in _PRODUCTS | _CONVOLUTIONS and any(tensor.dtype in ("INT8", "INT4") for tensor in weights)
    return "dynamic_int8" if dynamic else "float32"


def _elements(tensor: Tensor) -> int:
    return math.prod(abs(size) for size in tensor.shape)
