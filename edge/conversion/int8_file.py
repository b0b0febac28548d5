"""From a float TFLite file to one with int8 products, by ai-edge-quantizer and with ranges that training learned."""

import contextlib
import io
import math
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_vit.edge.files.tflite_graph import Graph, Operator, Tensor, read_graph
from keras_vit.utils.missing import needs

PRODUCT = "PRODUCT"  # Any of these.
_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
# These only move numbers, so where int8 operations alone use the result they can move int8 ones.
_SLICES = ("STRIDED_SLICE", "SLICE")
_LAYOUT = ("RESHAPE", "TRANSPOSE", "PAD", *_SLICES)

Range = tuple[float, float]

# With fewer multiplications for each activation, rounding it takes longer than they save (measured on x86-64).
_LEAST_USES = 64


@dataclass(frozen=True)
class Int8Operation:
    """What a layer computes in int8.

    Attributes:
        operator: Its TensorFlow Lite operator, or PRODUCT for any product of matrices.
        inputs: The ranges of its inputs: smallest and largest value.
        output: The range of its output.
    """

    operator: str
    inputs: list[Range]
    output: Range


def quantize_operations(float_file: bytes, layers: dict[str, Int8Operation | None]) -> bytes:
    """Makes the products of a float file int8, and the operations between them that are to be, kernels per channel.

    Args:
        float_file: A converted model whose kernels lie on the int8 grid already.
        layers: By name, from `int8_operations` of keras_vit.edge.quantization; None for one that computes in float.
    """
    graph = read_graph(float_file)
    ranges: dict[str, Range] = {}
    int8: dict[str, Operator] = {}  # By name of the output.
    for op, layer in _operators_by_layer(graph, layers):
        int8[op.outputs[0].name] = op
        _agree(ranges, op.outputs[0].name, layers[layer].output, layer)
        if op.name in _PRODUCTS:
            for tensor, limits in zip(_activations(op), layers[layer].inputs, strict=True):
                _agree(ranges, tensor.name, limits, layer)
    moving = _layout_between(graph.operators, int8)
    int8 |= {op.outputs[0].name: op for op in moving}
    for op in moving:
        if op.outputs[0].name in ranges:
            ranges.setdefault(op.inputs[0].name, ranges[op.outputs[0].name])
    for op in reversed(moving):
        _agree(ranges, op.outputs[0].name, ranges[op.inputs[0].name], "layout")
    _give_sources_ranges(graph.operators, int8, ranges)

    def entries(qtyping):
        # Asymmetric by name; what makes a grid symmetric is its range, see below.
        config = qtyping.OpQuantizationConfig(
            activation_tensor_config=qtyping.TensorQuantizationConfig(
                8, symmetric=False, granularity=qtyping.QuantGranularity.TENSORWISE
            ),
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
            ),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        )
        for kind in sorted({op.name for op in int8.values()}):
            names = [re.escape(name) for name, op in int8.items() if op.name == kind]
            yield f"^(?:{'|'.join(names)});$", kind, config

    statistics = {
        name: {"min": np.full((1,), _lowest(*limits), np.float32), "max": np.full((1,), limits[1], np.float32)}
        for name, limits in ranges.items()
    }
    return _run_quantizer(float_file, entries, statistics)


def _lowest(minimum, maximum):
    """The value of -128. A symmetric grid has no use for it, but it makes the zero point 0 and the step max / 127."""
    return minimum * 128 / 127 if minimum == -maximum else minimum


def quantize_dynamically(float_file: bytes) -> bytes:
    """Makes the weights of products int8, per channel; the runtime rounds the activations as they come.

    Products that each activation takes little part in stay in float: there, rounding the activations takes longer than
    int8 saves. So do depthwise convolutions, which XNNPACK computes with fixed ranges only.
    """
    worthwhile: dict[str, list[str]] = {}
    for op in read_graph(float_file).operators:
        if op.name in ("FULLY_CONNECTED", "CONV_2D") and _uses_of_an_activation(op) >= _LEAST_USES:
            worthwhile.setdefault(op.name, []).append(re.escape(op.outputs[0].name))

    def entries(qtyping):
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
            ),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        )
        for kind, names in worthwhile.items():
            yield f"^(?:{'|'.join(names)});$", kind, config

    return _run_quantizer(float_file, entries)


def _uses_of_an_activation(product: Operator) -> float:
    """Multiplications in a product for each number of its input."""
    activations, weights = product.inputs[:2]
    # The kernel meets every position of the output; the last axis of it is the input's channels.
    positions = math.prod(product.outputs[0].shape[:-1])
    return positions * math.prod(weights.shape) / math.prod(activations.shape)


def _run_quantizer(float_file, entries, statistics=None) -> bytes:
    with needs("ai-edge-quantizer", "writing int8 files", "edge"):
        from ai_edge_quantizer import qtyping, quantizer

    quiet = io.StringIO()  # It reports its progress on the terminal; what matters of it is in the file's audit.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        path = os.path.join(folder, "float.tflite")
        with open(path, "wb") as file:
            file.write(float_file)
        run = quantizer.Quantizer(path)
        for regex, kind, config in entries(qtyping):
            run.update_quantization_recipe(
                regex=regex,
                operation_name=qtyping.TFLOperationName(kind),
                op_config=config,
                algorithm_key="min_max_uniform_quantize",
            )
        return bytes(run.quantize(statistics).quantized_model)


def _agree(ranges, name, limits, layer):
    if not np.allclose(ranges.setdefault(name, limits), limits, rtol=1e-6, atol=0):
        raise RuntimeError(
            f"The tensor {name!r} would need two ranges, {ranges[name]} and {limits} (for {layer!r}); the file's graph "
            "differs from the model's."
        )


def _operators_by_layer(graph: Graph, layers: dict[str, Int8Operation | None]) -> Iterator[tuple[Operator, str]]:
    """Which operator of the file computes each int8 layer: its name stands in the name of the tensor that it gives.

    The graph's outputs have names of their own, so a product that gives one belongs to the single layer left.
    """
    outputs = {tensor.name for tensor in graph.outputs}
    rest, last = {layer for layer, operation in layers.items() if operation is not None}, []
    for op in graph.operators:
        kind = PRODUCT if op.name in _PRODUCTS else op.name
        named = {_layer_of(piece, layers) for piece in re.split(r"[;/]", op.outputs[0].name)}
        matches = {layer for layer in rest & named if layers[layer].operator == kind}
        if len(matches) == 1:
            rest -= matches
            yield op, matches.pop()
        elif kind == PRODUCT and op.outputs[0].name in outputs:
            last.append(op)
    if len(last) == len(rest) == 1:
        yield last[0], rest.pop()
    elif rest:
        raise RuntimeError(
            f"{len(rest)} layers of the model, such as {sorted(rest)[:3]}, could not be found by name in the file."
        )


def _layer_of(piece, layers):
    """TensorFlow numbers a name that it has seen before, as every one in the function that is exported."""
    numbered = re.sub(r"_\d+$", "", piece)
    return numbered if numbered in layers else piece


def _layout_between(operators: list[Operator], int8: dict[str, Operator]) -> list[Operator]:
    """Layout operators whose results only int8 ones use, the last of the file first.

    A slice of a float tensor is not among them: its numbers go onto the grid after it, when they are fewer, and each of
    two slices onto a grid of its own.
    """
    made_by = {tensor.name: op for op in operators for tensor in op.outputs}
    users: dict[str, list[Operator]] = {}
    for op in operators:
        for tensor in op.inputs:
            users.setdefault(tensor.name, []).append(op)
    moving: dict[str, Operator] = {}
    for op in reversed(operators):
        name = op.outputs[0].name
        after = [user.outputs[0].name for user in users.get(name, [])]
        if op.name not in _LAYOUT or not after or not all(user in int8 or user in moving for user in after):
            continue
        if op.name not in _SLICES or _source(op.inputs[0], made_by).name in int8:
            moving[name] = op
    return list(moving.values())


def _source(tensor: Tensor, made_by: dict[str, Operator]) -> Tensor:
    """What layout operators made a tensor of."""
    while tensor.name in made_by and made_by[tensor.name].name in _LAYOUT:
        tensor = made_by[tensor.name].inputs[0]
    return tensor


def _give_sources_ranges(operators: list[Operator], int8: dict[str, Operator], ranges: dict[str, Range]) -> None:
    """The range of each input that is moved in float, for other users' sake: that of the int8 numbers it began as."""
    made_by = {tensor.name: op for op in operators for tensor in op.outputs}
    for op in int8.values():
        for tensor in _activations(op):
            source = tensor
            while source.name not in ranges and source.name in made_by and made_by[source.name].name in _LAYOUT:
                source = made_by[source.name].inputs[0]
            if source.name in ranges:
                ranges.setdefault(tensor.name, ranges[source.name])


def _activations(op: Operator) -> list[Tensor]:
    return list(op.inputs[: 2 if op.name == "BATCH_MATMUL" else 1])
