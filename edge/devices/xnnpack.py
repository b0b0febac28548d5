"""Which operators XNNPACK, the CPU delegate of TensorFlow Lite, runs; each other operator splits the graph.

Source: VisitNode and its checks in LiteRT's tflite/delegates/xnnpack/xnnpack_delegate.cc.
"""

from __future__ import annotations

from keras_vit.edge.files.tflite_graph import Operator

# The operators that it has a kernel for.
_KERNELS = frozenset(
    """ABS ADD ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL CEIL CONCATENATION CONV_2D COS DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE DIV ELU EXP EXPAND_DIMS FLOOR FULLY_CONNECTED GELU HARD_SWISH LEAKY_RELU
    LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL NEG PAD PRELU QUANTIZE READ_VARIABLE REDUCE_MAX REDUCE_MIN
    RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR ROUND RSQRT SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT
    SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV VAR_HANDLE""".split()  # noqa: SIM905
)
# Those of them that it runs only in float.
_FLOAT_KERNELS = frozenset(
    """AVERAGE_POOL_2D DIV EXP GELU HARD_SWISH MAXIMUM MINIMUM RSQRT SOFTMAX SQRT
    SQUARED_DIFFERENCE""".split()  # noqa: SIM905
)
_CONCATENATED_AT_MOST = 5


def why_outside(operator: Operator) -> str:
    """Return why XNNPACK leaves an operator to the slower kernels of TensorFlow Lite, and what to do about it."""
    name, options = operator.name, operator.options
    data = [tensor for tensor in (*operator.inputs[:1], *operator.outputs) if not tensor.constant]
    if name not in _KERNELS:
        return f"XNNPACK has no kernel for {name}"
    if name in _FLOAT_KERNELS and any(tensor.quantized for tensor in data):
        return f"XNNPACK runs {name} only in float; leave it unquantized"
    if name == "STRIDED_SLICE" and options and options.shrinkAxisMask:
        return "the slice drops an axis, which XNNPACK does not support; keep the axis in the slice, then reshape"
    if name == "BATCH_MATMUL" and any(operator.inputs[1].zero_points):
        return (
            f"the right-hand side has zero point {operator.inputs[1].zero_points[0]}; XNNPACK's int8 matmul "
            "needs 0, so quantize it symmetrically"
        )
    if name == "CONCATENATION" and len(operator.inputs) > _CONCATENATED_AT_MOST:
        return f"XNNPACK concatenates at most {_CONCATENATED_AT_MOST} tensors; here there are {len(operator.inputs)}"
    if any(tensor.dtype in ("INT32", "INT64") and not tensor.constant for tensor in operator.inputs[1:]):
        return "its shape or indices are computed at run time; XNNPACK needs constants"
    other = sorted({tensor.dtype for tensor in data if tensor.dtype != "FLOAT32" and not tensor.quantized})
    if other:
        return f"XNNPACK supports float32 and quantized int8; this is {', '.join(other)}"
    if any(tensor.dynamic for tensor in data):
        return "XNNPACK needs static shapes; one here is known only at run time"
    return "XNNPACK of this runtime does not run it; the file does not show why"
