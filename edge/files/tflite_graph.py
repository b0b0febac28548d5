"""Read the operators and tensors of a .tflite file without a runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_vit.utils.missing import needs


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    Attributes:
        index: Its number in the graph.
        name: Its name, made from the names of layers.
        shape: Its shape, with -1 for a size that is known only at run time.
        dtype: Its type as the file format's schema calls it, such as "INT8".
        scales: The step of its grid, or of each channel's grid; empty for a tensor that is not quantized.
        zero_points: The integers that stand for 0 on these grids.
        constant: Whether the file holds its values.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    constant: bool

    @property
    def dynamic(self) -> bool:
        return -1 in self.shape

    @property
    def quantized(self) -> bool:
        return bool(self.zero_points)


@dataclass(frozen=True)
class Operator:
    """An operator of a graph.

    Attributes:
        name: Its name in the file format's schema, such as "CONV_2D", or the name of a custom operator.
        version: Its version.
        custom: Whether it is not one of the runtime's own operators.
        inputs, outputs: Its tensors.
        options: Its parameters as the schema defines them; None if it has none.
    """

    name: str
    version: int
    custom: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    options: Any

    @property
    def layer(self) -> str:
        """The path of the Keras layer that it comes from, as far as the names of its tensors show.

        An output of the graph has a name of its own, so there the operator's weights tell.
        """
        weights = [tensor for tensor in self.inputs if tensor.constant]
        names = [tensor.name.split(";")[0] for tensor in (*self.outputs[:1], *weights)]
        path = next((name for name in names if "/" in name), names[0] if names else "")
        return path.rpartition("/")[0] or path


@dataclass(frozen=True)
class Graph:
    """The content of a file.

    Attributes:
        operators: The operators of the main graph, in order.
        nested: The operators of the graphs that control flow and composites refer to.
        inputs, outputs: The tensors of the main graph.
        input_names: The names of the inputs in the first signature, by their numbers; empty if there is none.
        signature: The outputs of the first signature by their names there; empty if there is none.
        min_runtime: The oldest runtime for the file, as the converter noted it; "" if it did not.
    """

    operators: tuple[Operator, ...]
    nested: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    input_names: dict[int, str]
    signature: dict[str, Tensor]
    min_runtime: str


def read_graph(content: bytes | bytearray) -> Graph:
    """Read the content of a valid file: one just converted, or one that the runner's `check_file` has accepted.

    Raises:
        ImportError: ai-edge-litert, which has the file format's schema, is not installed.
    """
    with needs("ai-edge-litert", "reading a .tflite file's operators", "edge"):
        from ai_edge_litert import schema_py_generated as schema

    return graph_of(schema.ModelT.InitFromPackedBuf(content, 0))


def graph_of(model: Any) -> Graph:
    """Return the graph of a file's content that was read with the classes of the file format's schema, a `ModelT`."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    types = {code: name for name, code in vars(schema.TensorType).items() if not name.startswith("_")}

    def tensor(index: int, parts: Any) -> Tensor:
        signature = parts.shape if parts.shapeSignature is None else parts.shapeSignature
        grids = parts.quantization
        points, scales = (None, None) if grids is None else (grids.zeroPoint, grids.scale)
        buffer = model.buffers[parts.buffer]
        return Tensor(
            index=index,
            name=_text(parts.name),
            shape=() if signature is None else tuple(int(size) for size in signature),
            dtype=types[parts.type],
            scales=() if scales is None else tuple(float(scale) for scale in scales),
            zero_points=() if points is None else tuple(int(point) for point in points),
            constant=buffer.data is not None or buffer.size > 0,
        )

    def operator(parts: Any, tensors: list[Tensor]) -> Operator:
        code = model.operatorCodes[parts.opcodeIndex]
        # Numbers above 127 are in the newer of two fields; old files have only the older field.
        number = max(code.deprecatedBuiltinCode, code.builtinCode)
        custom = number == schema.BuiltinOperator.CUSTOM
        return Operator(
            name=_text(code.customCode) if custom else names[number],
            version=code.version,
            custom=custom,
            inputs=tuple(tensors[i] for i in _indices(parts.inputs)),
            outputs=tuple(tensors[i] for i in _indices(parts.outputs)),
            options=parts.builtinOptions,
        )

    graphs = []
    for subgraph in model.subgraphs:
        tensors = [tensor(i, parts) for i, parts in enumerate(subgraph.tensors)]
        graphs.append([operator(parts, tensors) for parts in subgraph.operators or ()])
        if len(graphs) == 1:
            inputs, outputs = (
                tuple(tensors[i] for i in _indices(ends)) for ends in (subgraph.inputs, subgraph.outputs)
            )
            signed = model.signatureDefs[0] if model.signatureDefs else None
            input_names = {end.tensorIndex: _text(end.name) for end in signed.inputs or ()} if signed else {}
            signature = {_text(end.name): tensors[end.tensorIndex] for end in signed.outputs or ()} if signed else {}
    return Graph(
        operators=tuple(graphs[0]),
        nested=tuple(operator for graph in graphs[1:] for operator in graph),
        inputs=inputs,
        outputs=outputs,
        input_names=input_names,
        signature=signature,
        min_runtime=_min_runtime(model),
    )


def _min_runtime(model: Any) -> str:
    for entry in model.metadata or ():
        if _text(entry.name) == "min_runtime_version":
            return bytes(np.asarray(model.buffers[entry.buffer].data, np.uint8)).rstrip(b"\0").decode("ascii")
    return ""


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _indices(value: np.ndarray | None) -> list[int]:
    """Return the tensor indices without -1, which stands for an optional input that is missing."""
    return [] if value is None else [int(index) for index in value if index >= 0]
