"""Convert operations of a float TFLite file to integers with litert-quantizer, as a plan says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_vit.edge.conversion.neighbors import Neighbors
from keras_vit.edge.files.layer_names import layers_in
from keras_vit.edge.files.tflite_graph import Graph, Operator, Tensor, graph_of
from keras_vit.edge.quantization.plan import PRODUCT, Row
from keras_vit.utils.missing import needs

Range = tuple[float, float]  # The smallest and the largest value.

_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
# These only move values, so they can move int8 values where all users of the result are int8.
_SLICES = ("STRIDED_SLICE", "SLICE")
_LAYOUT = ("RESHAPE", "TRANSPOSE", "PAD", *_SLICES)


def quantize_file(
    float_file: Any,
    rows: dict[str, Row],
    ranges: dict[str, Range],
    neighbors: dict[str, Neighbors],
    outputs: dict[str, str],
) -> bytearray:
    """Return a float file with operations and kernels in integers, with one range per channel of each kernel.

    Args:
        float_file: A converted file, a `ModelT` of the file format's schema. Its kernels are rounded to their grid
            already if it is that of a quantized model.
        rows: What each layer computes, by its name.
        ranges: The range of each grid that the rows name.
        neighbors: What each layer takes its inputs from and gives its output to, by its name.
        outputs: The layer that computes each output of the file, by the output's name in the signature.

    Returns:
        The content of the quantized file.

    Raises:
        ImportError: litert-quantizer is not installed. The message gives the pip command.
        RuntimeError: A layer cannot be found in the file, an operator for an int8 layer computes with other tensors
            than the layer, or a tensor would need two ranges.
    """
    graph = graph_of(float_file)
    found = list(_operators_by_layer(graph, rows, neighbors, outputs))
    _check_tensors(graph, [(op, layer) for op, layer in found if rows[layer].activations == "int8"], neighbors)
    int8 = {op.outputs[0].name: op for op, layer in found if rows[layer].activations == "int8"}
    moving = _layout_between(graph.operators, int8)
    recipes = [(op, rows[layer].activations, rows[layer].kernel_bits or 8) for op, layer in found]
    recipes += [(op, "int8", 8) for op in moving]
    limits: dict[str, Range] = {}
    for op, layer in found:
        if rows[layer].activations == "int8":
            _set_range(limits, op.outputs[0].name, ranges[rows[layer].output], layer)
            if op.name in _PRODUCTS:
                for tensor, grid in zip(_activations(op), rows[layer].inputs, strict=True):
                    _set_range(limits, tensor.name, ranges[grid], layer)
    for op in moving:
        if op.outputs[0].name in limits:
            limits.setdefault(op.inputs[0].name, limits[op.outputs[0].name])
    for op in reversed(moving):
        _set_range(limits, op.outputs[0].name, limits[op.inputs[0].name], "layout")
    _give_sources_ranges(graph.operators, int8 | {op.outputs[0].name: op for op in moving}, limits)
    return _run_quantizer(float_file, recipes, limits)


def _run_quantizer(float_file: Any, recipes: list[tuple[Operator, str, int]], limits: dict[str, Range]) -> bytearray:
    """Return a float file quantized by litert-quantizer.

    Args:
        float_file: The file.
        recipes: Operators, what their activations are ("int8", "dynamic_int8" or "float32"), and their kernels' bits.
        limits: The range of each int8 activation by its tensor's name.
    """
    with needs("litert-quantizer", "exporting int8 files", "edge"):
        from litert_quantizer import model_modifier, params_generator, qtyping, recipe_manager

    # This is what the package's class `Quantizer` does, without its progress bar, which it always draws, and without
    # opening the float file in an interpreter to check that no range is empty, which takes memory and warns about it.
    groups: dict[tuple[str, str, int], list[str]] = {}
    for op, activations, bits in recipes:
        groups.setdefault((op.name, activations, bits), []).append(re.escape(op.outputs[0].name))
    recipe = recipe_manager.RecipeManager()
    for (kind, activations, bits), names in sorted(groups.items()):
        config = _configuration(qtyping, activations, bits)
        operator = qtyping.TFLOperationName(kind)
        recipe.add_quantization_config(f"^(?:{'|'.join(names)});$", operator, config, "min_max_uniform_quantize")
    statistics = {
        name: {"min": np.full((1,), _lowest(*ends), np.float32), "max": np.full((1,), ends[1], np.float32)}
        for name, ends in limits.items()
    }
    parameters = params_generator.ParamsGenerator(float_file).generate_quantization_parameters(
        recipe, statistics or None, enable_progress_bar=False
    )
    return model_modifier.ModelModifier(float_file).modify_model(parameters, enable_progress_bar=False)


def _configuration(qtyping, activations: str, bits: int):
    """Return the package's configuration for an operator."""
    kernel = qtyping.TensorQuantizationConfig(bits, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE)
    if activations == "float32":
        return qtyping.OpQuantizationConfig(
            weight_tensor_config=kernel, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
        )
    # Formally asymmetric: a symmetric grid results from its range, see `_lowest`.
    grid = qtyping.TensorQuantizationConfig(8, symmetric=False, granularity=qtyping.QuantGranularity.TENSORWISE)
    return qtyping.OpQuantizationConfig(
        activation_tensor_config=grid if activations == "int8" else None,
        weight_tensor_config=kernel,
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )


def _lowest(minimum, maximum):
    """Return the value of -128. A symmetric grid does not use it; with it, the zero point is 0, the step max / 127."""
    return minimum * 128 / 127 if minimum == -maximum else minimum


def _set_range(ranges, name, limits, layer):
    """Set the range of a tensor, and check that it has no other one."""
    if not np.allclose(ranges.setdefault(name, limits), limits, rtol=1e-6, atol=0):
        raise RuntimeError(
            f"The tensor {name!r} would need two ranges, {ranges[name]} and {limits} (for {layer!r}): the graph of the "
            "file differs from the graph of the model."
        )


def _operators_by_layer(
    graph: Graph, rows: dict[str, Row], neighbors: dict[str, Neighbors], outputs: dict[str, str]
) -> Iterator[tuple[Operator, str]]:
    """Yield each operator of the file that computes a layer with integers, with the name of the layer.

    The name of an operator's output contains the name of the layer. Outputs of the graph have other names, and are
    found by their name in the signature.
    """
    output_layers = {tensor.name: outputs[name] for name, tensor in graph.signature.items() if name in outputs}
    calls = {  # Those that are left to be found.
        name: neighbors[name].calls
        for name, row in rows.items()
        if row.activations != "float32" or row.kernel_bits is not None
    }
    for op in graph.operators:
        kind = PRODUCT if op.name in _PRODUCTS else op.name
        name = op.outputs[0].name
        named = layers_in(name, rows) | ({output_layers[name]} if name in output_layers else set())
        matches = [layer for layer in named if calls.get(layer) and rows[layer].operator == kind]
        if len(matches) == 1:
            calls[matches[0]] -= 1
            yield op, matches[0]
    # The converter computes equal calls of a layer once.
    missing = sorted(layer for layer, left in calls.items() if left == neighbors[layer].calls)
    if missing:
        raise RuntimeError(
            f"{len(missing)} layers of the model, such as {missing[:3]}, cannot be found by name in the file."
        )


def _check_tensors(graph: Graph, int8: list[tuple[Operator, str]], neighbors: dict[str, Neighbors]) -> None:
    """Check that each int8 operator takes and gives the tensors that its layer takes and gives.

    The converter folds some arithmetic before and after a product into it. Then the ranges of the layer's tensors are
    not those of the operator's.
    """
    made_by = {tensor.name: made for made in graph.operators for tensor in made.outputs}
    inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (graph.inputs, graph.outputs))
    for op, layer in int8:
        taken = zip(_activations(op), neighbors[layer].sources, strict=True) if op.name in _PRODUCTS else ()
        for tensor, sources in taken:
            path = [tensor.name]
            while path[-1] in made_by and made_by[path[-1]].name in (*_LAYOUT, "CAST"):
                path.append(made_by[path[-1]].inputs[0].name)
            if path[-1] in inputs:
                fits = None in sources
            else:  # Neither an output of the file nor a plain operation has the name of a layer.
                unnamed = path[-1] in outputs or not layers_in(path[-1], neighbors)
                fits = unnamed or any(layers_in(name, neighbors) & sources for name in path)
            if not fits:
                wanted = " or ".join(sorted("the input" if name is None else repr(name) for name in sources))
                raise RuntimeError(
                    f"In the converted file, the int8 layer {layer!r} takes {path[-1]!r}, not the output of {wanted}: "
                    "the converter has folded what lies between into the layer, and the layer's range does not fit. If "
                    "it is a layer class of your own that passes its input on in inference, set its attribute "
                    "`identity_in_inference = True`; otherwise put its arithmetic into layers of Keras or keras_vit."
                )
        if folded := layers_in(op.outputs[0].name, neighbors) & neighbors[layer].followers:
            raise RuntimeError(
                f"In the converted file, the int8 layer {layer!r} gives the output of {min(folded)!r}: the converter "
                "has folded that layer into it, and the range of its output does not fit."
            )


def _layout_between(operators: Sequence[Operator], int8: dict[str, Operator]) -> list[Operator]:
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


def _give_sources_ranges(operators: Sequence[Operator], int8: dict[str, Operator], ranges: dict[str, Range]) -> None:
    """Set the range of each input that is moved in float, because of its float users, to the range of its source."""
    made_by = {tensor.name: op for op in operators for tensor in op.outputs}
    for op in int8.values():
        for tensor in op.inputs:
            if tensor.constant:
                continue
            source = tensor
            while source.name not in ranges and source.name in made_by and made_by[source.name].name in _LAYOUT:
                source = made_by[source.name].inputs[0]
            if source.name in ranges:
                ranges.setdefault(tensor.name, ranges[source.name])


def _activations(op: Operator) -> list[Tensor]:
    return list(op.inputs[: 2 if op.name == "BATCH_MATMUL" else 1])
