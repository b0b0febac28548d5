"""Write a .tflite file operator by operator."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit.utils.missing import needs


class TFLiteFile:
    """A .tflite file with one graph, in the making.

    Raises:
        ImportError: ai-edge-litert, which has the file format's schema, is not installed.
    """

    def __init__(self):
        with needs("ai-edge-litert", "writing a .tflite file", "edge"):
            from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self._graph = schema.SubGraphT()
        self._graph.name = "main"
        self._graph.tensors, self._graph.operators = [], []
        empty = schema.BufferT()  # The first buffer belongs to all tensors without content.
        self._buffers = [empty]
        self._codes: dict[tuple[str, int], int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        scales: Sequence[float] | np.ndarray = (),
        zero_points: Sequence[int] | np.ndarray = (),
        axis: int = 0,
        content: np.ndarray | None = None,
    ) -> int:
        """Add a tensor and return its number.

        Args:
            name: Its name.
            shape: Its shape.
            dtype: Its type by the schema's name, such as "INT8".
            scales: The step of its grid, or one for each channel; none for a tensor that has no grid.
            zero_points: The integer for 0 on each grid.
            axis: The axis of the channels.
            content: The values of a constant.
        """
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name, np.array(shape, np.int32), True
        tensor.type = getattr(self.schema.TensorType, dtype)
        if len(scales):
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = np.array(scales, np.float32)
            tensor.quantization.zeroPoint = np.array(zero_points, np.int64)
            tensor.quantization.quantizedDimension = axis
        if content is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def name(self, index: int) -> str:
        """Return the name of a tensor."""
        return self._graph.tensors[index].name

    def operator(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        version: int = 1,
        options: str | None = None,
        **settings: Any,
    ) -> None:
        """Add an operator.

        Args:
            name: Its name in the schema, such as "CONV_2D".
            inputs: The numbers of the tensors that it takes; -1 for one that is left out.
            outputs: The numbers of the tensors that it gives.
            version: Its version; an old runtime refuses versions that it does not know.
            options: The schema's name of its table of settings, such as "Conv2DOptions".
            **settings: The settings in that table.
        """
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((name, version), len(self._codes))
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")()
            for key, value in settings.items():
                assert hasattr(operator.builtinOptions, key), (options, key)
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)

    def add_graph(self, content: bytes, inputs: Sequence[int]) -> list[int]:
        """Add the operators of another file, and return the numbers of the tensors that they give.

        Args:
            content: The content of a file with one graph and one signature.
            inputs: The numbers of the tensors that take the place of its inputs, in the order of their names.
        """
        model = self.schema.ModelT.InitFromPackedBuf(content, 0)
        graph, (signature,) = model.subgraphs[0], model.signatureDefs
        numbers = dict(zip(_in_order_of_names(signature.inputs), inputs, strict=True))
        for index, tensor in enumerate(graph.tensors):
            if index in numbers:
                continue
            data = model.buffers[tensor.buffer].data
            tensor.buffer = 0
            if data is not None:
                tensor.buffer = len(self._buffers)
                self._buffers.append(self.schema.BufferT())
                self._buffers[-1].data = np.array(data)
            tensor.name = tensor.name.decode()
            numbers[index] = len(self._graph.tensors)
            self._graph.tensors.append(tensor)
        names = {code: name for name, code in vars(self.schema.BuiltinOperator).items() if not name.startswith("_")}
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            key = names[max(code.builtinCode, code.deprecatedBuiltinCode)], code.version
            operator.opcodeIndex = self._codes.setdefault(key, len(self._codes))
            operator.inputs = np.array([numbers.get(index, -1) for index in operator.inputs], np.int32)
            operator.outputs = np.array([numbers[index] for index in operator.outputs], np.int32)
            self._graph.operators.append(operator)
        return [numbers[index] for index in _in_order_of_names(signature.outputs)]

    def content(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        """Return the content of the file.

        Args:
            inputs: The tensors that the graph takes, by the names that its signature gives them.
            outputs: Those that it gives.
        """
        import flatbuffers

        schema = self.schema
        self._graph.inputs = np.array(list(inputs.values()), np.int32)
        self._graph.outputs = np.array(list(outputs.values()), np.int32)
        model = schema.ModelT()
        model.version, model.description = 3, "keras_vit"
        model.subgraphs, model.buffers = [self._graph], self._buffers
        model.operatorCodes = [self._code(name, version) for name, version in self._codes]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serve", 0
        signature.inputs, signature.outputs = self._named(inputs), self._named(outputs)
        model.signatureDefs = [signature]
        size = sum(len(buffer.data) for buffer in self._buffers if buffer.data is not None)
        builder = flatbuffers.Builder(size + 2**20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _code(self, name, version):
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(self.schema.BuiltinOperator, name), version
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        return code

    def _named(self, tensors):
        maps = []
        for name, index in tensors.items():
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = name, index
            maps.append(entry)
        return maps


def _in_order_of_names(entries) -> list[int]:
    return [entry.tensorIndex for entry in sorted(entries, key=lambda entry: entry.name)]
