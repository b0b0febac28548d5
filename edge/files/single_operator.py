"""Take single operators out of a .tflite file, to ask a runtime about each of them alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from keras_vit.utils.missing import needs


def single_operator_file(content: bytes, number: int) -> bytes:
    """Return a .tflite file with one operator of a file's main graph.

    Its constants are those of the operator, and the other tensors that it takes are the inputs.

    Args:
        content: The content of a valid file.
        number: The number of the operator in the main graph.

    Raises:
        ImportError: ai-edge-litert, which has the file format's schema, is not installed.
    """
    with needs("ai-edge-litert", "taking an operator out of a .tflite file", "edge"):
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    operator = copy.copy(graph.operators[number])
    code = model.operatorCodes[operator.opcodeIndex]
    buffers = [schema.BufferT()]  # The first buffer belongs to all tensors without content.
    tensors: list[Any] = []
    numbers = {-1: -1}  # From the numbers of tensors in the file to those here; -1 is an input that is left out.
    inputs = []

    def take(index: int) -> int:
        if index not in numbers:
            numbers[index] = len(tensors)
            tensor = copy.copy(graph.tensors[index])
            values = _content_of(model.buffers[tensor.buffer], content)
            tensor.buffer = 0
            if values is not None:
                tensor.buffer = len(buffers)
                buffer = schema.BufferT()
                buffer.data = values
                buffers.append(buffer)
            elif index in operator.inputs:
                inputs.append(numbers[index])
            tensors.append(tensor)
        return numbers[index]

    taken, given = ([take(int(index)) for index in ends] for ends in (operator.inputs, operator.outputs))
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, np.array(taken, np.int32), np.array(given, np.int32)
    alone = schema.ModelT(version=3, operatorCodes=[code], buffers=buffers, description="one operator")
    alone.subgraphs = [
        schema.SubGraphT(
            tensors=tensors, inputs=np.array(inputs, np.int32), outputs=operator.outputs, operators=[operator]
        )
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(alone.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _content_of(buffer: Any, content: bytes) -> np.ndarray | None:
    """Return the bytes of a buffer, which lie in the flatbuffer or behind it; None if it has none."""
    if buffer.data is not None:
        return np.asarray(buffer.data, np.uint8)
    if buffer.size:
        return np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    return None
