"""Verifying and measuring .onnx files, in Python and on the command line."""

import json

import keras
import numpy as np
import pytest

from keras_vit import edge
from keras_vit.cli.main import main
from keras_vit.edge.devices.opening import open_file
from tests.edge.models import IMAGES


@pytest.fixture(scope="module")
def onnx_file(vit, tmp_path_factory):
    return edge.export(vit, tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_a_file_is_verified_against_its_model(vit, onnx_file):
    result = edge.verify(vit, onnx_file, IMAGES)
    assert result.images == len(IMAGES) and result.max_relative_error < 1e-5 and result.top1_agreement == 1


def test_two_files_of_any_kind_are_compared(vit, symmetric_vit, onnx_file, tmp_path):
    float_file = edge.export(vit, tmp_path / "model.tflite")
    assert edge.verify(onnx_file, float_file, IMAGES).max_relative_error < 1e-5
    assert edge.verify(float_file, onnx_file, IMAGES).max_relative_error < 1e-5
    assert edge.verify(onnx_file, onnx_file, IMAGES).max_abs_error == 0
    int8 = [edge.export(symmetric_vit, tmp_path / f"int8.{kind}") for kind in ("onnx", "tflite")]
    assert 20 < edge.verify(*int8, IMAGES).snr_db < 100


def test_images_that_do_not_fill_a_batch_are_not_lost(vit, tmp_path):
    file = edge.export(vit, tmp_path / "model.onnx", batch_size=3)
    assert edge.verify(vit, file, IMAGES[:7]).max_relative_error < 1e-5


def test_the_runtime_and_the_tensors_are_described(onnx_file):
    import onnxruntime

    with open_file(onnx_file) as interpreter:
        interpreter.allocate()
        assert interpreter.runtime == f"onnxruntime {onnxruntime.__version__}"
        assert interpreter.inputs == [{"name": "image", "signature": None, "shape": [1, 16, 16, 3], "dtype": "float32"}]
        assert [output["shape"] for output in interpreter.outputs] == [[1, 5]]


def test_files_of_both_kinds_are_measured_in_turn(onnx_file, vit_file):
    results = edge.benchmark([onnx_file, vit_file], runs=3, warmup=1)
    assert [len(result.samples_ms) for result in results] == [3, 3]
    assert [result.runtime.split()[0] for result in results] == ["onnxruntime", "ai-edge-litert"]
    assert all(result.p50_ms > 0 and result.init_ms > 0 for result in results)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "cannot be opened"),
        (b"", ValueError, "is empty"),
        (b"not a model", ValueError, "m.onnx"),
    ],
)
def test_files_that_are_not_usable(content, error, message, tmp_path):
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(error, match=message):
        open_file(tmp_path / "m.onnx").allocate()


def test_a_file_of_another_model(onnx_file):
    image = keras.Input((8, 8, 3))
    other = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
    with pytest.raises(ValueError, match=r"takes images of shape \(16, 16, 3\); the model takes \(8, 8, 3\)"):
        edge.verify(other, onnx_file, IMAGES)


def test_the_command_line(vit, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    vit.save("model.keras")
    np.save("images.npy", IMAGES)
    assert (
        main(["export", "model.keras", "m.onnx", "--precision", "float16", "--opset", "17", "--batch-size", "2"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("m.onnx: 0.") and lines[1:] == [
        "TensorRT 10: trtexec --onnx=m.onnx --saveEngine=m.engine --fp16",
        "TensorRT 11: trtexec --onnx=m.onnx --saveEngine=m.engine",
    ]
    assert main(["verify", "model.keras", "m.onnx", "--images", "images.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["snr_db"] > 40
    assert main(["verify", "m.onnx", "m.onnx", "--images", "images.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_abs_error"] == 0
    assert main(["benchmark", "m.onnx", "--runs", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["benchmarks"][0]["samples_ms"]) == 2
    assert main(["export", "model.keras", "m.onnx", "--opset", "11"]) == 1
    assert "received 11" in capsys.readouterr().err
