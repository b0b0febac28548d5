"""Converting a model without its large kernels, which are written into the file afterwards.

TensorFlow's converter holds five to six copies of every weight at its peak. So each large kernel is a constant whose
elements are all equal while it converts, which takes no memory there. Kernels of the same shape have the same number,
and the converter writes them once. Only layers that take the same input have different ones: otherwise, it would take
them for the same layer.
"""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vit.edge.files.layer_names import layers_in
from keras_vit.edge.files.tflite_graph import graph_of
from keras_vit.graph.factors import only_records_facts, scale_and_shift
from keras_vit.graph.flat_graph import Graph, Node
from keras_vit.graph.reading import PERMUTATIONS, RESHAPES, SLICES
from keras_vit.utils.missing import needs

# Through these, the converter folds numbers into the product behind them.
LAYOUT = (*RESHAPES, *PERMUTATIONS, *SLICES, keras.layers.ZeroPadding2D)
# Kernels with fewer elements stay as they are.
_LEAST_SIZE = 2**14
# The operators whose second input is a kernel with the output channels on its first axis.
_WITH_KERNEL = ("FULLY_CONNECTED", "CONV_2D")


class _WithPlaceholder:
    """A layer whose kernel is a constant with equal elements.

    Args:
        number: The elements.

    Attributes:
        real: The kernel itself, to be used instead; or None.
    """

    def __init__(self, *args, number: float, **kwargs):
        super().__init__(*args, **kwargs)
        self.number = number
        self.real: np.ndarray | None = None

    def add_weight(self, *args, name=None, **settings):
        if name != "kernel":
            return super().add_weight(*args, name=name, **settings)
        self._placeholder_shape = tuple(settings["shape"])
        return None

    @property
    def kernel(self):
        if self.real is not None:
            return tf.constant(self.real, self.compute_dtype)
        return tf.constant(self.number, self.compute_dtype, self._placeholder_shape)


class _Dense(_WithPlaceholder, keras.layers.Dense):
    """A dense layer with a placeholder for its kernel."""


class _Conv2D(_WithPlaceholder, keras.layers.Conv2D):
    """A convolution with a placeholder for its kernel."""


_WITH_PLACEHOLDER: dict[type, type] = {keras.layers.Dense: _Dense, keras.layers.Conv2D: _Conv2D}


class KernelPlaceholders:
    """The large kernels of a model while it is converted without them. They are in files.

    Args:
        folder: A folder for the kernels.

    Attributes:
        missing: The names of the layers whose placeholder was not found in the converted file, because the converter
            has computed with it.
    """

    def __init__(self, folder: str):
        self._folder = Path(folder)
        # Of each layer.
        self._numbers: dict[str, float] = {}
        self._paths: dict[str, Path] = {}
        self.missing: list[str] = []

    def put(self, graph: Graph) -> None:
        """Put placeholders into the layers of a graph that have a large kernel and are called once."""
        groups: dict[tuple, float] = {}
        ranks: Counter = Counter()
        for node in graph.nodes:
            if node.kind not in _WITH_PLACEHOLDER or not node.is_called_once or node.config.get("groups", 1) != 1:
                continue
            kernel = node.weights["kernel"]
            if kernel.size < _LEAST_SIZE or _takes_constants(node):
                continue
            ranks[node.inputs[0], kernel.shape] += 1
            group = (kernel.shape, ranks[node.inputs[0], kernel.shape])
            number = groups.setdefault(group, 1 + (len(groups) + 1) / 2**12)  # Exact in float32.
            self._numbers[node.name] = number
            self._paths[node.name] = self._folder / f"{len(self._paths)}.npy"
            np.save(self._paths[node.name], np.ascontiguousarray(np.moveaxis(kernel, -1, 0)))
            del node.weights["kernel"]
            node.kind, node.config = _WITH_PLACEHOLDER[node.kind], {**node.config, "number": number}

    def fill(self, content: bytes, outputs: dict[str, str]) -> Any:
        """Return a converted file with its kernels, as a `ModelT` of the file format's schema.

        Args:
            content: The content of the file.
            outputs: The layer that computes each output of the file, by the output's name in the signature.
        """
        with needs("ai-edge-litert", "exporting .tflite files", "edge"):
            from ai_edge_litert import schema_py_generated as schema
            from ai_edge_litert.tools import flatbuffer_utils

        model = flatbuffer_utils.read_model_from_bytearray(memoryview(content))
        tensors = model.subgraphs[0].tensors
        placeholders = {}  # By the tensors' indices.
        for index, tensor in enumerate(tensors):
            values = model.buffers[tensor.buffer].data
            if tensor.type == schema.TensorType.FLOAT32 and values is not None and len(values) >= 4 * _LEAST_SIZE:
                values = np.asarray(values).view(np.float32)
                if values[0] in self._numbers.values() and np.all(values == values[0]):
                    placeholders[index] = float(values[0])
        remaining = dict(self._numbers)
        graph = graph_of(model)
        ends = {tensor.name: {outputs[name]} for name, tensor in graph.signature.items()}
        for operator, parts in zip(graph.operators, model.subgraphs[0].operators, strict=True):
            if operator.name not in _WITH_KERNEL or operator.inputs[1].index not in placeholders:
                continue
            number, placeholder = placeholders[operator.inputs[1].index], tensors[operator.inputs[1].index]
            name = operator.outputs[0].name
            named = layers_in(name, remaining) | ends.get(name, set())
            layers = [each for each in named if remaining.get(each) == number]
            kernel = np.load(self._paths[layers[0]], mmap_mode="r") if len(layers) == 1 else None
            if kernel is None or kernel.size != np.prod(placeholder.shape):
                continue
            del remaining[layers[0]]
            if isinstance(model.buffers[placeholder.buffer].data, np.memmap):  # It is that of another layer already.
                placeholder = copy.copy(placeholder)
                parts.inputs[1], placeholder.buffer = len(tensors), len(model.buffers)
                tensors.append(placeholder)
                model.buffers.append(schema.BufferT())
            placeholder.name = f"{layers[0]}/kernel".encode()
            model.buffers[placeholder.buffer].data = kernel.reshape(-1).view(np.uint8)
        self.missing = list(remaining)
        for buffer in model.buffers:
            if buffer.data is not None and not isinstance(buffer.data, np.memmap):
                buffer.data = np.array(buffer.data)  # Otherwise, the whole content would stay in memory.
        return model

    def restore(self, model: keras.Model) -> None:
        """Give the layers whose placeholder was not found their kernels back, in the model that is converted."""
        for name in self.missing:
            model.get_layer(name).real = np.moveaxis(np.load(self._paths[name]), 0, -1)
            del self._numbers[name]


def _takes_constants(node: Node) -> bool:
    """Whether constants are multiplied with the input of a product or added, which the converter may fold into it."""
    before = node.inputs[0].node
    passes = before.is_a(*LAYOUT) or only_records_facts(before)
    return scale_and_shift(before) is not None or (passes and _takes_constants(before))
