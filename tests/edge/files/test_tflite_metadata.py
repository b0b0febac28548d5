"""Metadata in front of a file: the file computes the same, and every reader of the format finds them."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from keras_vit.edge.devices.runner import check_file
from keras_vit.edge.files.tflite_metadata import metadata_front, read_metadata


def outputs(file, seed=0):
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    random = np.random.default_rng(seed)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], random.normal(size=detail["shape"]).astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def unpacked(content):
    """Return the metadata as the schema's own code reads them, after the flatbuffer."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    return {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}


@pytest.fixture(params=["float32", "int8", "many_outputs", "8_megabytes", "hybrid", "integer"])
def content(request, tflite_files, vit_file):
    """Files of the converter, of litert-quantizer, and of our own writer of integer files."""
    if request.param == "integer":
        return bytearray(_integer_file())
    return bytearray(Path(vit_file if request.param == "hybrid" else tflite_files[request.param]).read_bytes())


def _integer_file():
    from keras_vit.edge.conversion.tflite_file import TFLiteFile

    file = TFLiteFile()
    x, y = (file.tensor(name, (1, 4), "FLOAT32") for name in "xy")
    file.operator("RELU", [x], [y])
    return file.content({"x": x}, {"y": y})


@pytest.mark.parametrize("data", [b"", b"short", bytes(range(256)) * 300], ids=["empty", "short", "long"])
def test_a_file_with_metadata_computes_the_same(content, data, tmp_path):
    before = tmp_path / "before.tflite"
    before.write_bytes(content)
    entries = read_metadata(content)
    after = tmp_path / "after.tflite"
    after.write_bytes(metadata_front(content, "a name", data) + content)
    check_file(str(after))
    for one, other in zip(outputs(before), outputs(after), strict=True):
        np.testing.assert_array_equal(one, other)
    written = after.read_bytes()
    assert read_metadata(written) == {**entries, "a name": data}
    if data:
        assert unpacked(written)["a name"] == data


def test_several_entries(tflite_files):
    content = bytearray(Path(tflite_files["float32"]).read_bytes())
    known = unpacked(content)
    for name in ("first", "second", "third with a longer name"):
        content = metadata_front(content, name, name.upper().encode()) + content
    assert {name: data for name, data in unpacked(content).items() if name not in known} == {
        name: name.upper().encode() for name in ("first", "second", "third with a longer name")
    }
    assert read_metadata(content) == unpacked(content)
