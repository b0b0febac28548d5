"""A file for programs: as an array in C, with several images at once, and in short programs to start from."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.cli.main import main
from tests.edge.models import IMAGES


def test_a_c_array_is_the_file(vit_file, tmp_path):
    name = edge.write_c_array(vit_file, tmp_path / "model.h")
    text = (tmp_path / "model.h").read_text()
    content = Path(vit_file).read_bytes()
    assert name == Path(vit_file).stem and f"{name}[] = {{" in text
    array = re.search(r"#endif\n(.*)\};", text, re.DOTALL).group(1)
    assert bytes(int(number) for number in array.split(",") if number.strip()) == content
    assert f"static const unsigned int {name}_size = {len(content)};" in text


def test_names_become_names_in_c(tmp_path):
    (tmp_path / "1 small-model.tflite").write_bytes(b"abc")
    assert edge.write_c_array(tmp_path / "1 small-model.tflite", tmp_path / "model.h") == "_1_small_model"


@pytest.mark.parametrize(
    ("header", "name", "message"),
    [("model.c", None, r"ends in \.h or \.hpp; received 'model\.c'"), ("model.h", "a-b", "received 'a-b'")],
)
def test_other_names_are_refused(vit_file, header, name, message):
    with pytest.raises(ValueError, match=message):
        edge.write_c_array(vit_file, header, name)


@pytest.mark.parametrize("precision", ["float32", "hybrid_int8"])
def test_a_tflite_file_of_several_images(vit, quantized_vit, precision, tmp_path):
    model = quantized_vit if precision == "hybrid_int8" else vit
    file = edge.export(model, tmp_path / "model.tflite", batch_size=3)
    assert edge.file_info(file).inputs[0].shape == (3, 16, 16, 3)
    assert edge.audit(file).partitions == 1
    # 16 images do not fill six batches.
    assert edge.verify(model, file, IMAGES).snr_db > (25 if precision == "hybrid_int8" else 100)


def test_batch_sizes_that_a_file_cannot_have(vit, tmp_path):
    for size, settings in ((0, {}), (2, {"precision": "full_int8", "calibration_data": IMAGES})):
        with pytest.raises(ValueError, match=f"received batch_size={size}|received {size}"):
            edge.export(vit, tmp_path / "model.tflite", batch_size=size, **settings)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize("language", ["cpp", "kotlin"])
def test_a_program_states_what_the_file_takes(vit, kind, language, tmp_path):
    info = edge.file_info(edge.export(vit, tmp_path / f"small.{kind}", verify=False))
    text = edge.snippet(info, language)
    scale = info.description.preprocessing.scale[0]
    for part in (f"small.{kind}", f"{scale!r}f", "-1.0f", "5 scores", "cover 18 x 18 pixels (bicubic)"):
        assert part in text, part
    assert text.count("{") == text.count("}") and text.count("(") == text.count(")")
    if kind == "onnx":
        assert '"image"' in text


def test_programs_that_do_not_exist(vit_file, tmp_path):
    with pytest.raises(ValueError, match=r"one of \('cpp', 'kotlin'\); received 'rust'"):
        edge.snippet(edge.file_info(vit_file), "rust")
    image = keras.Input((4,))
    file = edge.export(keras.Model(image, keras.layers.Dense(2)(image)), tmp_path / "model.tflite", verify=False)
    with pytest.raises(ValueError, match=r"takes float32 \(1, 4\) and gives float32 \(1, 2\)"):
        edge.snippet(edge.file_info(file), "cpp")


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = keras_vit.ViT(input_shape=(16, 16, 3), patch_size=8, width=16, depth=1, num_heads=1, classes=3)
    model.save("model.keras")
    arguments = ["export", "model.keras", "m.tflite", "--image-size", "16", "32", "--batch-size", "2"]
    assert main([*arguments, "--c-array", "m.h"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "m.h: m, m_size"
    assert edge.file_info("m.tflite").inputs[0].shape == (2, 16, 32, 3)
    resized = keras_vit.resize_model(model, (16, 32, 3))
    images = np.random.default_rng(0).normal(size=(4, 16, 32, 3)).astype("float32")
    assert edge.verify(resized, "m.tflite", images).snr_db > 100
    assert main(["info", "m.tflite", "--snippet", "kotlin"]) == 0
    assert "class Classifier" in capsys.readouterr().out
    for arguments, sentence in (
        (["info", "vit_b16", "--snippet", "cpp"], "--snippet is for .tflite and .onnx files; received 'vit_b16'"),
        (["info", "m.tflite", "--snippet", "rust"], "received 'rust'"),
        (["export", "model.keras", "m.tflite", "--c-array", "m.c"], "ends in .h or .hpp; received 'm.c'"),
        (["export", "model.keras", "m.tflite", "--image-size", "1", "2", "3"], "received [1, 2, 3]"),
    ):
        assert main(arguments) == 1
        assert sentence in capsys.readouterr().err
