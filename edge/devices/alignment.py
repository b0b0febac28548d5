"""Find which operators of a .tflite file the kernels of XNNPACK in a profile come from.

XNNPACK makes its kernels in the order of the file's operators, but leaves some out (constants, fused activations) and
adds others (conversions, copies). So the two sequences are aligned, as in comparing two texts: by dynamic programming
over pairs that go together. Where the runtime runs some operators itself, it gives the others to the delegate in parts,
and runs these in an order of its own, which is found first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from keras_vit.edge.devices.tables import Node
from keras_vit.edge.files.tflite_graph import Operator

# The operators that a kernel may come from, by the beginning of the kernel's name.
_SOURCES = (
    ("Fully Connected|Dynamic Fully Connected", "FULLY_CONNECTED CONV_2D BATCH_MATMUL"),
    ("Convolution", "CONV_2D DEPTHWISE_CONV_2D"),
    ("Deconvolution", "TRANSPOSE_CONV"),
    ("Batch Matrix Multiply", "BATCH_MATMUL"),
    ("Softmax", "SOFTMAX"),
    ("Static Reshape|Reshape", "RESHAPE EXPAND_DIMS SQUEEZE"),
    ("Copy", "RESHAPE CONCATENATION PACK EXPAND_DIMS SPLIT"),
    ("Transpose", "TRANSPOSE"),
    ("Static Slice|Slice", "SLICE STRIDED_SLICE SPLIT"),
    ("Concatenate", "CONCATENATION"),
    ("Split|Even Split", "SPLIT"),
    ("Constant Pad|Static Constant Pad", "PAD PADV2"),
    ("Depth To Space", "DEPTH_TO_SPACE"),
    ("Space To Depth", "SPACE_TO_DEPTH"),
    ("Resize Bilinear|Static Resize", "RESIZE_BILINEAR"),
    ("Add", "ADD"),
    ("Subtract", "SUB"),
    ("Multiply", "MUL"),
    ("Divide", "DIV"),
    ("Maximum", "MAXIMUM"),
    ("Minimum", "MINIMUM"),
    ("Squared Difference", "SQUARED_DIFFERENCE"),
    ("Mean Squared|Sum Squared", "MEAN SUM SQUARE SQUARED_DIFFERENCE"),
    ("Mean|Global Average Pooling", "MEAN AVERAGE_POOL_2D"),
    ("Sum", "SUM"),
    ("Reduce Max", "REDUCE_MAX"),
    ("Reduce Min", "REDUCE_MIN"),
    ("Average Pooling", "AVERAGE_POOL_2D"),
    ("Max Pooling", "MAX_POOL_2D"),
    ("Reciprocal Square Root", "RSQRT"),
    ("Square Root", "SQRT"),
    ("Square", "SQUARE"),
    ("GELU|Approx GELU", "GELU"),
    ("Sigmoid", "LOGISTIC"),
    ("HardSwish", "HARD_SWISH"),
    ("Tanh", "TANH"),
    ("Exp", "EXP"),
    ("Negate", "NEG"),
    ("Abs", "ABS"),
    ("ELU", "ELU"),
    ("Leaky ReLU", "LEAKY_RELU"),
    ("PReLU", "PRELU"),
    ("Clamp", "RELU RELU6 RELU_N1_TO_1 MINIMUM MAXIMUM"),
    # A table of 256 values, which stands for any function of an int8 number.
    ("Invalid Unary Op|Lut|Unary", "GELU LOGISTIC TANH EXP RSQRT SQRT ELU HARD_SWISH"),
    ("Convert", "QUANTIZE DEQUANTIZE CAST"),
)
_PATTERNS = tuple((re.compile(rf"(?:{names})\b"), frozenset(sources.split())) for names, sources in _SOURCES)
_PAIR, _NO_KERNEL, _NO_OPERATOR = 3.0, -0.1, -0.5


def sources_of(kind: str) -> frozenset[str]:
    """Return the operators that a kernel may come from; for an operator that no delegate runs, itself."""
    for pattern, sources in _PATTERNS:
        if pattern.match(kind):
            return sources
    return frozenset((kind,))


def execution_order(operators: Sequence[Operator], outside: AbstractSet[int]) -> list[int]:
    """Return the indices of operators in the order in which the runtime runs them.

    It gathers parts in turn: all operators whose inputs are ready and that the delegate runs, then all that it does not
    run, and so on. Each part starts as what the first operator that is ready is.

    Args:
        operators: The operators in the file's order.
        outside: The indices of those that no delegate runs.
    """
    pending = {tensor.index for operator in operators for tensor in operator.outputs}
    remaining, order = list(range(len(operators))), []
    while remaining:
        kind, part = None, []
        for index in remaining:  # Operators come after those that they depend on.
            if pending.isdisjoint(tensor.index for tensor in operators[index].inputs):
                kind = (index in outside) if kind is None else kind
                if (index in outside) == kind:
                    part.append(index)
                    pending.difference_update(tensor.index for tensor in operators[index].outputs)
        if not part:
            raise ValueError("The operators of the file do not come after those that they depend on.")
        taken = set(part)
        remaining = [index for index in remaining if index not in taken]
        order += part
    return order


def align(nodes: Sequence[Node], operators: Sequence[Operator]) -> list[int]:
    """Return the index of the operator that each node belongs to.

    A node that comes from no operator, such as a conversion that XNNPACK added, belongs to the one that follows it.
    """
    numbers = {re.search(r":(\d+)$", node.name) for node in nodes if not node.delegated}
    order = execution_order(operators, {int(found.group(1)) for found in numbers if found})
    return [order[place] for place in _aligned(nodes, [operators[index] for index in order])]


def _aligned(nodes: Sequence[Node], operators: Sequence[Operator]) -> list[int]:
    """Return the place in operators, which are in the order in which they run, that each node belongs to."""
    kinds = {node.kind: sources_of(node.kind) for node in nodes}
    rows, columns = len(nodes), len(operators)
    score = np.zeros((rows + 1, columns + 1), np.float32)
    score[1:, 0] = _NO_OPERATOR * np.arange(1, rows + 1)
    score[0, 1:] = _NO_KERNEL * np.arange(1, columns + 1)
    step = np.zeros((rows + 1, columns + 1), np.int8)  # 0: no kernel, 1: no operator, 2: a pair
    step[1:, 0] = 1
    names = [operator.name for operator in operators]
    for i, node in enumerate(nodes, 1):
        sources = kinds[node.kind]
        pairs = np.array([_PAIR if name in sources else -np.inf for name in names], np.float32)
        above, diagonal = score[i - 1, 1:] + _NO_OPERATOR, score[i - 1, :-1] + pairs
        best = np.maximum(above, diagonal)
        chosen = np.where(diagonal >= above, 2, 1)
        left = score[i, 0]
        for j in range(1, columns + 1):
            left += _NO_KERNEL
            if best[j - 1] >= left:
                left = best[j - 1]
                step[i, j] = chosen[j - 1]
            score[i, j] = left
    owners, i, j = [-1] * rows, rows, columns
    while i > 0:
        if step[i, j] == 2:
            i, j = i - 1, j - 1
            owners[i] = j
        elif step[i, j] == 1:
            i -= 1
        else:
            j -= 1
    following = columns - 1
    for i in range(rows - 1, -1, -1):
        following = owners[i] = owners[i] if owners[i] >= 0 else following
    return owners
