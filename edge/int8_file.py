"""From a float TFLite file to one with int8 products, by ai-edge-quantizer and with ranges that training learned."""

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from keras_vit.edge.graph import Operator, Tensor, read_graph
from keras_vit.missing import needs

_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
# These give int8 for int8 on the same grid, so between two products the numbers need not go back to float.
_LAYOUT = ("RESHAPE", "TRANSPOSE")


def quantize_products(float_file: bytes, ranges: dict[str, tuple[list[float], float]]) -> bytes:
    """Makes every matrix product of a float file int8, symmetric, with kernels per channel.

    Args:
        float_file: A converted model whose kernels lie on the int8 grid already.
        ranges: From `keras_vit.edge.quantize.product_ranges`: for each product's layer, the limits of its inputs and of
            its output.
    """
    operators = read_graph(float_file).operators
    products = [op for op in operators if op.name in _PRODUCTS]
    between = _layout_between(products, operators)
    limits: dict[str, float] = {}
    for op, layer in _products_by_layer(products, ranges):
        inputs, output = ranges[layer]
        for tensor, limit in [*zip(_activations(op), inputs, strict=True), (op.outputs[0], output)]:
            _agree(limits, tensor.name, limit, layer)
    for op in between:
        _agree(limits, op.outputs[0].name, limits[op.inputs[0].name], "layout")

    def entries(qtyping):
        grid = qtyping.TensorQuantizationConfig
        config = qtyping.OpQuantizationConfig(
            activation_tensor_config=grid(8, symmetric=True, granularity=qtyping.QuantGranularity.TENSORWISE),
            weight_tensor_config=grid(8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        )
        for kind in {op.name for op in [*products, *between]}:
            names = [re.escape(op.outputs[0].name) for op in [*products, *between] if op.name == kind]
            yield f"^(?:{'|'.join(names)});$", kind, config

    statistics = {
        name: {"min": np.full((1,), -limit, np.float32), "max": np.full((1,), limit, np.float32)}
        for name, limit in limits.items()
    }
    return _run_quantizer(float_file, entries, statistics)


def quantize_dynamically(float_file: bytes) -> bytes:
    """Makes the weights of every product int8, per channel; the runtime rounds the activations as they come."""

    def entries(qtyping):
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
            ),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        )
        for kind in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"):
            yield ".*", kind, config

    return _run_quantizer(float_file, entries)


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


def _agree(limits, name, limit, layer):
    if not np.isclose(limits.setdefault(name, limit), limit, rtol=1e-6):
        raise RuntimeError(
            f"The tensor {name!r} would need two ranges, {limits[name]} and {limit} (for {layer!r}); the file's graph "
            "differs from the model's."
        )


def _products_by_layer(products: list[Operator], layers: Iterable[str]) -> Iterator[tuple[Operator, str]]:
    """Which layer each product of the file comes from: its name stands in the name of the tensor it gives.

    The graph's output has a name of its own, so a single product without a match is the single layer left.
    """
    rest, unmatched = set(layers), []
    for op in products:
        pieces = set(re.split(r"[;/]", op.outputs[0].name))
        pieces |= {re.sub(r"_\d+$", "", piece) for piece in pieces}
        matches = rest & pieces
        if len(matches) == 1:
            rest -= matches
            yield op, matches.pop()
        else:
            unmatched.append(op)
    if len(unmatched) == len(rest) == 1:
        yield unmatched[0], rest.pop()
    elif unmatched or rest:
        raise RuntimeError(
            f"{len(unmatched)} products of the file and {len(rest)} layers of the model could not be matched by name, "
            f"such as {[op.outputs[0].name for op in unmatched][:2]} and {sorted(rest)[:2]}."
        )


def _layout_between(products: list[Operator], operators: Iterable[Operator]) -> list[Operator]:
    """Reshapes and transposes on the way from one product to another, each after those it depends on."""
    producers = {tensor.index: op for op in operators for tensor in op.outputs}
    found = {}
    for op in products:
        for tensor in _activations(op):
            way = []
            while (before := producers.get(tensor.index)) is not None and before.name in _LAYOUT:
                way.append(before)
                tensor = before.inputs[0]
            if before is not None and before.name in _PRODUCTS:
                found |= {layout.outputs[0].index: layout for layout in reversed(way)}
    return list(found.values())


def _activations(op: Operator) -> list[Tensor]:
    return list(op.inputs[: 2 if op.name == "BATCH_MATMUL" else 1])
