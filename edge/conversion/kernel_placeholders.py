"""Converting a model without its large kernels, which are written into the file afterwards.

TensorFlow's converter holds five to six copies of every weight at its peak. A constant whose elements are all equal is
one number to it. So each large kernel is such a constant while it converts, with a number of its own that tells in the
file which kernel belongs there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vit.graph.flat_graph import Graph, Node
from keras_vit.utils.missing import needs

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
    """The large kernels of a model while it is converted without them. They are on disk.

    Args:
        folder: A folder for the kernels.
    """

    def __init__(self, folder: str):
        self._folder = Path(folder)
        self._layers: dict[float, str] = {}

    def put(self, graph: Graph) -> None:
        """Put placeholders into the layers of a graph that have a large kernel and are called once."""
        for node in graph.nodes:
            if node.kind in _WITH_PLACEHOLDER and node.is_called_once and _is_large(node):
                number = 1 + (len(self._layers) + 1) / 2**12  # Exact in float32.
                np.save(self._path(number), node.weights["kernel"])
                node.weights = {name: values for name, values in node.weights.items() if name != "kernel"}
                node.kind, node.config = _WITH_PLACEHOLDER[node.kind], {**node.config, "number": number}
                self._layers[number] = node.name

    def fill(self, file: str | os.PathLike) -> list[str]:
        """Write the kernels into a converted file.

        Returns:
            The names of the layers whose placeholder is not in the file, because the converter has computed with it.
        """
        missing = dict(self._layers)
        content = np.memmap(file, np.uint8, "r+")
        for kernel, shape in _kernels(memoryview(content)):
            number = float(kernel[0])
            if number not in missing or np.any(kernel != kernel[0]):
                continue
            values = np.load(self._path(number), mmap_mode="r")
            if values.size == kernel.size:
                kernel.reshape(shape)[...] = np.moveaxis(values, -1, 0).reshape(shape)
                del missing[number]
        content.flush()
        return list(missing.values())

    def restore(self, model: keras.Model, layers: list[str]) -> None:
        """Give layers of the model their kernels back."""
        numbers = {name: number for number, name in self._layers.items()}
        for name in layers:
            model.get_layer(name).real = np.load(self._path(numbers[name]))
            del self._layers[numbers[name]]

    def _path(self, number: float) -> Path:
        return self._folder / f"{number!r}.npy"


def _is_large(node: Node) -> bool:
    return node.weights["kernel"].size >= _LEAST_SIZE and node.config.get("groups", 1) == 1


def _kernels(content: memoryview) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Yield the float kernels of a file, each as a flat array in place, and its shape: output channels first."""
    with needs("ai-edge-litert", "exporting .tflite files", "edge"):
        from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    kinds = {getattr(schema.BuiltinOperator, name) for name in _WITH_KERNEL}
    graph = model.Subgraphs(0)
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) in kinds:
            tensor = graph.Tensors(operator.Inputs(1))
            buffer = model.Buffers(tensor.Buffer())
            if tensor.Type() == schema.TensorType.FLOAT32 and buffer.DataLength():
                yield buffer.DataAsNumpy().view(np.float32), tuple(tensor.ShapeAsNumpy())
