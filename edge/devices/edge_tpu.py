"""What Google's Edge TPU runs, by its rules: its compiler is not published for every machine, so it is not asked.

Source: "TensorFlow models on the Edge TPU", coral.ai/docs/edgetpu/models-intro, model requirements and table 1.
"""

from __future__ import annotations

from keras_vit.edge.files.tflite_graph import Operator

_OPERATORS = frozenset(
    """ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC
    LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1
    RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB
    SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV""".split()  # noqa: SIM905
)
_LARGE_AXES = 3


def why_refused(operator: Operator) -> str | None:
    """Return why the Edge TPU does not run an operator, or None if it does."""
    if operator.name not in _OPERATORS:
        return f"the Edge TPU has no {operator.name}"
    tensors = [tensor for tensor in (*operator.inputs[:1], *operator.outputs) if not tensor.constant]
    other = sorted({tensor.dtype for tensor in tensors if tensor.dtype not in ("INT8", "UINT8")})
    if other and operator.name != "QUANTIZE":
        return f"it computes in {', '.join(other).lower()}; the Edge TPU computes in int8, so export in full_int8"
    if any(tensor.dynamic for tensor in tensors):
        return "the Edge TPU needs static shapes"
    if any(
        len(tensor.shape) > _LARGE_AXES and any(size > 1 for size in tensor.shape[:-_LARGE_AXES]) for tensor in tensors
    ):
        return f"the Edge TPU runs tensors with at most {_LARGE_AXES} axes larger than 1, the last ones"
    return None
