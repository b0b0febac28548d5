"""A file's operators, each in a file of its own and run one after the other, give what the file gives."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_vit.edge.files.single_operator import single_operator_file
from keras_vit.edge.files.tflite_graph import read_graph


def run(interpreter, values):
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), values, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


@pytest.mark.parametrize("name", ["float32", "int8_matmul", "rank_5", "six_concatenated"])
def test_operators_alone_compute_what_the_file_computes(tflite_files, name):
    content = Path(tflite_files[name]).read_bytes()
    graph = read_graph(content)
    whole = Interpreter(model_content=content)
    random = np.random.default_rng(0)
    images = [
        (10 * random.standard_normal(detail["shape"])).astype(detail["dtype"]) for detail in whole.get_input_details()
    ]
    expected = run(whole, images)

    values = {tensor.index: image for tensor, image in zip(graph.inputs, images, strict=True)}
    for number, operator in enumerate(graph.operators):
        alone = single_operator_file(content, number)
        assert [each.name for each in read_graph(alone).operators] == [operator.name]
        taken = {tensor.index: None for tensor in operator.inputs if not tensor.constant}  # Once each.
        outputs = run(Interpreter(model_content=alone), [values[index] for index in taken])
        values.update(zip((tensor.index for tensor in operator.outputs), outputs, strict=True))
    for tensor, output in zip(graph.outputs, expected, strict=True):
        np.testing.assert_allclose(values[tensor.index], output, rtol=1e-5, atol=1e-5)
