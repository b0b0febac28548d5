import ast
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_vit.edge.devices import runner
from keras_vit.edge.devices.interpreter import Interpreter


def _run(file, images):
    with Interpreter(file) as interpreter:
        interpreter.allocate()
        return interpreter.run(images)


def test_a_file_gives_the_outputs_of_the_model(model, tflite_files, images):
    (outputs,) = _run(tflite_files["float32"], images)
    np.testing.assert_allclose(outputs, model(images, training=False), atol=1e-6)


@pytest.mark.parametrize("name", ["batch_of_4", "dynamic_batch"])
def test_images_that_do_not_fill_a_batch_are_not_lost(model, tflite_files, images, name):
    (outputs,) = _run(tflite_files[name], images[:7])
    np.testing.assert_allclose(outputs, model(images[:7], training=False), atol=1e-6)


def test_outputs_are_in_the_order_of_the_model(many_outputs_model, tflite_files, images):
    outputs = _run(tflite_files["many_outputs"], images)
    for given, wanted in zip(outputs, many_outputs_model(images), strict=True):
        np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_int8_is_converted_with_the_parameters_of_the_tensor(tflite_files, images):
    from ai_edge_litert.interpreter import Interpreter as LiteRT

    reference = LiteRT(tflite_files["int8"])
    reference.allocate_tensors()
    (given,), (taken,) = reference.get_output_details(), reference.get_input_details()
    assert given["dtype"] == taken["dtype"] == np.int8
    wanted = []
    for image in images:
        scale, zero_point = taken["quantization"]
        pixels = np.clip(np.round(image / scale) + zero_point, -128, 127).astype(np.int8)
        reference.set_tensor(taken["index"], pixels[None])
        reference.invoke()
        scale, zero_point = given["quantization"]
        wanted.append((reference.get_tensor(given["index"])[0].astype(np.float32) - zero_point) * scale)
    (outputs,) = _run(tflite_files["int8"], images)
    np.testing.assert_allclose(outputs, wanted, atol=1e-6)


def test_the_runtime_is_reported_with_its_version(tflite_files):
    from importlib.metadata import version

    with Interpreter(tflite_files["float32"]) as interpreter:
        assert interpreter.runtime == f"ai-edge-litert {version('ai-edge-litert')}"


@pytest.mark.parametrize(
    "name, error, words",
    [
        ("missing", FileNotFoundError, "cannot be opened"),
        ("folder", IsADirectoryError, "cannot be opened"),
        ("empty", ValueError, "is empty"),
        ("other", ValueError, "is not a .tflite file"),
        ("identifier_only", ValueError, "is truncated or corrupt"),
        ("truncated", ValueError, "is truncated or corrupt"),
        ("last_byte_missing", ValueError, "is truncated or corrupt"),
    ],
)
def test_an_unusable_file_is_named(broken_files, name, error, words):
    with pytest.raises(error, match=words) as raised:
        Interpreter(broken_files[name])
    assert str(raised.value).startswith(broken_files[name])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["float32", "int8", "flex"])
def test_every_truncation_is_refused_before_the_runtime_reads_it(tmp_path, tflite_files, name):
    whole = Path(tflite_files[name]).read_bytes()
    runner.check_file(tflite_files[name])
    generator = random.Random(0)
    lengths = {*range(200), *range(len(whole) - 200, len(whole)), *generator.sample(range(len(whole)), 300)}
    path = tmp_path / "truncated.tflite"
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"truncated\.tflite"):
            runner.check_file(str(path))


def test_weights_behind_the_flatbuffer_are_checked(tmp_path):
    """Large files store them there, and litert-quantizer always does."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def content(offset, size):
        model = schema.ModelT(
            version=3, operatorCodes=[], subgraphs=[], buffers=[schema.BufferT(offset=offset, size=size)]
        )
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    flatbuffer = len(content(1, 1))
    path = tmp_path / "external.tflite"
    path.write_bytes(content(flatbuffer, 100) + bytes(100))
    runner.check_file(str(path))
    path.write_bytes(content(flatbuffer, 100) + bytes(99))
    with pytest.raises(ValueError, match="truncated"):
        runner.check_file(str(path))


def test_corrupt_bytes_give_an_error_that_names_the_file(tmp_path, tflite_files):
    whole = Path(tflite_files["float32"]).read_bytes()
    generator = random.Random(1)
    refused = 0
    for attempt in range(8):
        content = bytearray(whole)
        for _ in range(20):
            content[generator.randrange(8, len(content))] = generator.randrange(256)
        path = tmp_path / f"corrupt_{attempt}.tflite"
        path.write_bytes(content)
        try:
            _run(str(path), np.zeros((1, 8, 8, 3), np.float32))
        except (ValueError, RuntimeError) as error:
            assert str(error).startswith(str(path))
            refused += 1
    assert refused


def test_a_process_that_dies_names_the_file_and_the_signal(tflite_files):
    script = "import os, signal, sys; print('last words', file=sys.stderr, flush=True); input(); "
    script += "os.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(RuntimeError, match=r"float32\.tflite.*SIGSEGV.*'open'.*last words"):
        Interpreter(tflite_files["float32"], command=[sys.executable, "-c", script])


def test_a_missing_runtime_gives_the_pip_commands(tflite_files):
    script = "import runpy, sys; sys.modules.update(ai_edge_litert=None, tflite_runtime=None); "
    script += f"runpy.run_path({runner.__file__!r}, run_name='__main__')"
    with pytest.raises(ImportError, match=r'pip install "keras-vit\[edge\]"'):
        Interpreter(tflite_files["float32"], command=[sys.executable, "-c", script])


def test_output_of_the_runtime_does_not_mix_with_the_answers(tflite_files):
    script = "import runpy; "
    script += "import ai_edge_litert.interpreter as it; original = it.Interpreter.allocate_tensors; "
    script += "it.Interpreter.allocate_tensors = lambda s: (print('noise', flush=True), original(s)); "
    script += f"runpy.run_path({runner.__file__!r}, run_name='__main__')"
    with Interpreter(tflite_files["float32"], command=[sys.executable, "-c", script]) as interpreter:
        assert interpreter.allocate() > 0


def test_a_board_can_run_the_runner():
    """The runner parses as Python 3.8 and imports only the standard library, NumPy, and a runtime by its name."""
    tree = ast.parse(Path(runner.__file__).read_text(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "keras_vit"}  # sensors.py, which is sent with it.
