"""From a float TFLite file to one with int8 products, by ai-edge-quantizer and with ranges that training learned."""

import contextlib
import io
import os
import re
import tempfile

import numpy as np
from keras_vit.edge.missing import needs

_PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
# These give int8 for int8 on the same grid, so between two products the numbers need not go back to float.
_LAYOUT = ("RESHAPE", "TRANSPOSE")


def quantize_products(
    float_file: bytes, ranges: dict[str, tuple[list[float], float]], image_shape: tuple[int, int, int]
) -> bytes:
    """Makes every matrix product of a float file int8, symmetric, with kernels per channel.

    Args:
        float_file: A converted model whose kernels lie on the int8 grid already.
        ranges: From `keras_vit.edge.quantize.product_ranges`: for each product's layer, the limits of its inputs and of
            its output.
        image_shape: (height, width, channels) of the input.
    """
    graph = _Graph(float_file)
    limits: dict[str, float] = {}
    for op, layer in graph.products_by_layer(ranges).items():
        inputs, output = ranges[layer]
        tensors = graph.activations(op)
        if len(tensors) != len(inputs):
            raise RuntimeError(
                f"The layer {layer!r} has {len(inputs)} inputs, its operation in the file {len(tensors)}."
            )
        for tensor, limit in [*zip(tensors, inputs, strict=True), (graph.output(op), output)]:
            _agree(limits, graph.name(tensor), limit, layer)
    between = graph.layout_between_products()
    for op in between:
        _agree(limits, graph.name(graph.output(op)), limits[graph.name(graph.activations(op)[0])], "layout")

    def entries(qtyping):
        grid = qtyping.TensorQuantizationConfig
        config = qtyping.OpQuantizationConfig(
            activation_tensor_config=grid(8, symmetric=True, granularity=qtyping.QuantGranularity.TENSORWISE),
            weight_tensor_config=grid(8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE),
            compute_precision=qtyping.ComputePrecision.INTEGER,
        )
        by_kind: dict[str, list[str]] = {}
        for op in [*graph.products, *between]:
            by_kind.setdefault(graph.kind(op), []).append(re.escape(graph.name(graph.output(op))))
        for kind, names in by_kind.items():
            yield f"^(?:{'|'.join(names)});$", kind, config

    def statistics():
        return {
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

    return _run_quantizer(float_file, entries, lambda: None)


def _run_quantizer(float_file, entries, statistics) -> bytes:
    with needs("ai-edge-quantizer", "writing int8 files"):
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
        return bytes(run.quantize(statistics()).quantized_model)


def _agree(limits, name, limit, layer):
    if not np.isclose(limits.setdefault(name, limit), limit, rtol=1e-6):
        raise RuntimeError(
            f"The tensor {name!r} would need two ranges, {limits[name]} and {limit} (for {layer!r}); the file's graph "
            "differs from the model's."
        )


class _Graph:
    """The one subgraph of a converted file: operations by index, tensors by index."""

    def __init__(self, content: bytes):
        with needs("ai-edge-quantizer", "writing int8 files"):
            from ai_edge_quantizer.utils import tfl_flatbuffer_utils

        model = tfl_flatbuffer_utils.read_model(bytearray(content))
        self._names = tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME
        self._codes = [code.builtinCode for code in model.operatorCodes]
        self._graph = model.subgraphs[0]
        self._buffers = model.buffers
        self._producer = {out: i for i, op in enumerate(self._graph.operators) for out in op.outputs}
        self.products = [i for i in range(len(self._graph.operators)) if self.kind(i) in _PRODUCTS]

    def kind(self, op: int) -> str:
        name = self._names.get(self._codes[self._graph.operators[op].opcodeIndex])
        return name.value if name is not None else ""

    def name(self, tensor: int) -> str:
        return self._graph.tensors[tensor].name.decode()

    def output(self, op: int) -> int:
        return self._graph.operators[op].outputs[0]

    def activations(self, op: int) -> list[int]:
        """The inputs of an operation that are not constants."""
        tensors = [tensor for tensor in self._graph.operators[op].inputs if tensor >= 0]
        return [tensor for tensor in tensors if self._buffers[self._graph.tensors[tensor].buffer].data is None]

    def products_by_layer(self, layers) -> dict[int, str]:
        """Which layer each product of the file comes from: its path stands in the names of the tensors it gives.

        The graph's output has a name of its own, so the last product is the one layer that is left.
        """
        found = {}
        for op in self.products:
            pieces = set(re.split(r"[;/]", self.name(self.output(op))))
            pieces |= {re.sub(r"_\d+$", "", piece) for piece in pieces}
            matches = [layer for layer in layers if layer in pieces]
            if len(matches) == 1:
                found[op] = matches[0]
        rest = set(layers) - set(found.values())
        unknown = [op for op in self.products if op not in found]
        if len(rest) == len(unknown) == 1:
            found[unknown[0]] = rest.pop()
        if len(set(found.values())) != len(layers) or len(found) != len(self.products):
            raise RuntimeError(
                f"The file has {len(self.products)} products and the model {len(layers)}; "
                f"{len(found)} could be matched by name. Without a match: {sorted(rest)[:5]}."
            )
        return found

    def layout_between_products(self) -> list[int]:
        """Reshapes and transposes on the way from one product to another, in the order of the graph."""
        found = set()
        for op in self.products:
            for tensor in self.activations(op):
                way = []
                while (before := self._producer.get(tensor)) is not None and self.kind(before) in _LAYOUT:
                    way.append(before)
                    tensor = self.activations(before)[0]
                if before is not None and before in self.products:
                    found.update(way)
        return sorted(found)
