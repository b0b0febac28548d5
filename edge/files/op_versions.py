"""The TensorFlow Lite release in which each version of an operator first appeared.

A runtime refuses a file that has an operator in a version that it does not know. The table covers the operators of
vision models. Source: tensorflow/compiler/mlir/lite/tools/versioning/runtime_version.cc of TensorFlow 2.23.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_vit.edge.files.tflite_graph import Graph

# The releases of versions 1, 2, 3, ... of each operator; "-" for a version that was never released.
_RELEASES = {
    "ABS": "1.13 2.4 2.5 2.6 2.12",
    "ADD": "1.5 1.14 2.4 2.6 2.13 2.23",
    "ARG_MAX": "1.9 1.14 2.9",
    "AVERAGE_POOL_2D": "1.5 1.14 2.3",
    "BATCH_MATMUL": "2.3 2.3 2.4 2.5",
    "BROADCAST_TO": "- 2.5 2.5",
    "CAST": "1.5 2.7 2.8 2.9 2.12 2.15 2.17 2.21",
    "CONCATENATION": "1.5 1.14 2.3 2.14 2.21",
    "CONV_2D": "1.5 1.14 1.14 2.3 2.4 2.9 2.11 2.15",
    "DEPTHWISE_CONV_2D": "1.5 1.12 1.14 2.2 2.3 2.3 2.11",
    "DEPTH_TO_SPACE": "2.1 2.5",
    "DEQUANTIZE": "1.13.1 1.14 1.15 2.2 2.7 2.18 2.21 2.22",
    "DIV": "1.6 2.3",
    "EXP": "1.7 2.12",
    "EXPAND_DIMS": "1.10",
    "FILL": "1.13 2.3 2.5 2.12",
    "FULLY_CONNECTED": "1.5 1.10 1.14 1.14 2.0 2.1 2.3 2.3 2.3 2.11 2.15 2.17 2.18 2.21",
    "GATHER": "1.6 1.14 1.15 2.4 2.5 2.13 2.15",
    "GELU": "2.9 2.9",
    "HARD_SWISH": "1.15",
    "LOGISTIC": "1.14 1.14 2.3",
    "MAXIMUM": "1.14 1.14 2.3 2.3",
    "MAX_POOL_2D": "1.5 1.14 2.3",
    "MEAN": "1.6 1.14 2.4",
    "MINIMUM": "1.14 1.14 2.3 2.3",
    "MUL": "1.5 1.14 1.15 2.3 2.6 2.11 2.13 2.23",
    "NEG": "1.9",
    "PACK": "1.11 1.14 2.3 2.13",
    "PAD": "1.5 1.14 2.4 2.6 2.20",
    "PADV2": "1.9 1.14 2.4 2.6 2.20",
    "POW": "1.10",
    "QUANTIZE": "1.14 1.15 2.7 2.21 2.21 2.21",
    "REDUCE_MAX": "1.11 1.14 2.5",
    "REDUCE_MIN": "1.11 1.14 2.5",
    "REDUCE_PROD": "1.11 2.6",
    "RELU": "1.5 2.1 2.5",
    "RELU6": "1.5 1.14 2.5",
    "RESHAPE": "1.5",
    "RESIZE_BILINEAR": "1.7 1.14 2.2 2.5",
    "RESIZE_NEAREST_NEIGHBOR": "1.13.1 1.14 2.3 2.4",
    "RSQRT": "1.10 2.5 2.15",
    "SELECT_V2": "2.2 2.12",
    "SHAPE": "1.10",
    "SLICE": "1.14 1.14 1.14 2.4 2.5 2.14 2.21",
    "SOFTMAX": "1.5 1.14 2.3",
    "SPACE_TO_DEPTH": "1.5 1.14",
    "SPLIT": "1.5 1.14 1.14 2.3",
    "SPLIT_V": "1.13.1 2.3",
    "SQRT": "1.10 2.21",
    "SQUARE": "1.12",
    "SQUARED_DIFFERENCE": "1.13.1 2.5",
    "SQUEEZE": "1.6 2.5",
    "STRIDED_SLICE": "1.6 1.14 2.1 2.2 2.5 2.6 2.14 2.14",
    "SUB": "1.6 1.14 2.3 2.4 2.4",
    "SUM": "1.10 1.15",
    "TANH": "1.14 1.14 2.3",
    "TILE": "1.10.1 2.2 2.8",
    "TRANSPOSE": "1.6 1.14 1.15 2.3 2.4 2.12 2.14.4 2.22",
    "TRANSPOSE_CONV": "1.9 2.2 2.3 2.13 2.15",
    "UNPACK": "1.11 1.14 2.2 2.3 2.22",
}


def min_runtime(graph: Graph) -> str | None:
    """Return the oldest TensorFlow Lite release that has every operator of a file in the version that the file uses.

    Returns:
        The release, such as "2.17.0"; None if it is not known.
    """
    used = {(operator.name, operator.version) for operator in graph.operators + graph.nested if not operator.custom}
    releases = [release(name, version) for name, version in used]
    known = [numbers for numbers in releases if numbers is not None]
    if len(known) < len(releases):
        if not graph.min_runtime:
            return None
        known.append(parsed(graph.min_runtime))
    return ".".join(map(str, max(known))) if known else None


def release(operator: str, version: int) -> tuple[int, ...] | None:
    """Return the first release with a version of an operator, such as (2, 17, 0); None if it is not in the table."""
    releases = _RELEASES.get(operator, "").split()
    if not 1 <= version <= len(releases) or releases[version - 1] == "-":
        return None
    return parsed(releases[version - 1])


def parsed(text: str) -> tuple[int, ...]:
    """Return the release "2.17" or "2.17.0" as (2, 17, 0)."""
    numbers = [int(number) for number in text.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))
