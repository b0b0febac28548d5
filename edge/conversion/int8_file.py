"""Convert operations of a float TFLite file to int8 with ai-edge-quantizer and given ranges."""

import math
import re
from collections.abc import Callable, Iterator

import numpy as np

from keras_vit.edge.files.tflite_graph import Graph, Operator, Tensor, read_graph
from keras_vit.edge.quantization.operations import PRODUCT, Int8Operation, Range
from keras_vit.utils.missing import needs

_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
# These only move values, so they can move int8 values where all users of the result are int8.
_SLICES = ("STRIDED_SLICE", "SLICE")
_LAYOUT = ("RESHAPE", "TRANSPOSE", "PAD", *_SLICES)

# With fewer multiplications per activation, quantizing it takes longer than int8 saves (measured on x86-64).
_LEAST_USES = 64


def quantize_operations(float_file: bytes, layers: dict[str, Int8Operation | None]) -> bytes:
    """Return a float file with the given layers in int8, with one range per channel of each kernel.

    Args:
        float_file: The content of a converted file whose kernels are rounded to the int8 grid already.
        layers: What each layer computes in int8, by its name; None for a layer that computes in float.

    Returns:
        The content of the int8 file.

    Raises:
        ImportError: ai-edge-quantizer is not installed. The message gives the pip command.
        RuntimeError: A layer cannot be found in the file, or a tensor would need two ranges.
    """
    graph = read_graph(float_file)
    ranges: dict[str, Range] = {}
    int8: dict[str, Operator] = {}  # By the name of the output.
    for op, layer in _operators_by_layer(graph, layers):
        int8[op.outputs[0].name] = op
        _set_range(ranges, op.outputs[0].name, layers[layer].output, layer)
        if op.name in _PRODUCTS:
            for tensor, limits in zip(_activations(op), layers[layer].inputs, strict=True):
                _set_range(ranges, tensor.name, limits, layer)
    moving = _layout_between(graph.operators, int8)
    int8 |= {op.outputs[0].name: op for op in moving}
    for op in moving:
        if op.outputs[0].name in ranges:
            ranges.setdefault(op.inputs[0].name, ranges[op.outputs[0].name])
    for op in reversed(moving):
        _set_range(ranges, op.outputs[0].name, ranges[op.inputs[0].name], "layout")
    _give_sources_ranges(graph.operators, int8, ranges)

    def entries(qtyping):
        # Formally asymmetric: a symmetric grid results from its range, see `_lowest`.
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
    """Return the value of -128. A symmetric grid does not use it; with it, the zero point is 0, the step max / 127."""
    return minimum * 128 / 127 if minimum == -maximum else minimum


def quantize_dynamically(float_file: bytes) -> bytes:
    """Return a float file with int8 weights of products, per channel. The runtime quantizes the activations.

    Products that use each activation in few multiplications stay in float: quantizing the activations would take longer
    than int8 saves. Depthwise convolutions stay in float because XNNPACK computes them in int8 with fixed ranges only.

    Args:
        float_file: The content of a converted file.

    Returns:
        The content of the int8 file.

    Raises:
        ImportError: ai-edge-quantizer is not installed. The message gives the pip command.
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
    """Return the number of multiplications in a product per value of its input."""
    activations, weights = product.inputs[:2]
    # The kernel is applied at every position of the output.
    positions = math.prod(product.outputs[0].shape[:-1])
    return positions * math.prod(weights.shape) / math.prod(activations.shape)


def _run_quantizer(float_file: bytes, entries: Callable, statistics: dict | None = None) -> bytes:
    """Return a float file quantized by ai-edge-quantizer.

    Args:
        float_file: The content of the file.
        entries: From the package's module `qtyping` to (regular expression of output names, operator, configuration).
        statistics: The range of each activation by its tensor's name, if the file is to have fixed ranges.
    """
    with needs("ai-edge-quantizer", "exporting int8 files", "edge"):
        from ai_edge_quantizer import model_modifier, params_generator, qtyping, recipe_manager
        from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    # This is what the package's class `Quantizer` does, without its progress bar, which it always draws, and without
    # opening the float file in an interpreter to check that no range is empty, which takes memory and warns about it.
    recipe = recipe_manager.RecipeManager()
    for regex, operator, config in entries(qtyping):
        recipe.add_quantization_config(regex, qtyping.TFLOperationName(operator), config, "min_max_uniform_quantize")
    model = tfl_flatbuffer_utils.read_model(memoryview(float_file))
    parameters = params_generator.ParamsGenerator(model).generate_quantization_parameters(
        recipe, statistics, enable_progress_bar=False
    )
    return bytes(model_modifier.ModelModifier(model).modify_model(parameters, enable_progress_bar=False))


def _set_range(ranges, name, limits, layer):
    """Set the range of a tensor, and check that it has no other one."""
    if not np.allclose(ranges.setdefault(name, limits), limits, rtol=1e-6, atol=0):
        raise RuntimeError(
            f"The tensor {name!r} would need two ranges, {ranges[name]} and {limits} (for {layer!r}): the graph of the "
            "file differs from the graph of the model."
        )


def _operators_by_layer(graph: Graph, layers: dict[str, Int8Operation | None]) -> Iterator[tuple[Operator, str]]:
    """Yield each operator of the file that computes an int8 layer, with the name of the layer.

    The name of an operator's output contains the name of the layer. Outputs of the graph have other names, so a product
    that gives one belongs to the only layer that is left.
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
            f"{len(rest)} layers of the model, such as {sorted(rest)[:3]}, cannot be found by name in the file."
        )


def _layer_of(piece, layers):
    """Return the layer in a piece of a tensor's name, without the number that TensorFlow appends to used names."""
    numbered = re.sub(r"_\d+$", "", piece)
    return numbered if numbered in layers else piece


def _layout_between(operators: list[Operator], int8: dict[str, Operator]) -> list[Operator]:
    """Return the layout operators of which all users are int8, the last of the file first.

    A slice of a float tensor is not among them: after the slice, there are fewer values to quantize, and each of two
    slices can have a range of its own.
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
    """Return the tensor that a tensor was made from by layout operators."""
    while tensor.name in made_by and made_by[tensor.name].name in _LAYOUT:
        tensor = made_by[tensor.name].inputs[0]
    return tensor


def _give_sources_ranges(operators: list[Operator], int8: dict[str, Operator], ranges: dict[str, Range]) -> None:
    """Set the range of each input that is moved in float, because of its float users, to the range of its source."""
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
