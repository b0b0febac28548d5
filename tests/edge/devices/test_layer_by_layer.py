"""`verify(per_layer=True)` finds the layer at which a model and a file, two models, or two files part."""

import contextlib
import json

import keras
import numpy as np
import pytest

from keras_vit import edge
from keras_vit.cli.main import main
from tests.edge.models import IMAGES
from tests.edge.models import vit as make_vit


@pytest.fixture(scope="module")
def files(vit, quantized_vit, vit_file, tmp_path_factory):
    """A model and its file by the kind of the file."""
    folder = tmp_path_factory.mktemp("layers")
    return {
        "tflite": (vit, edge.export(vit, folder / "model.tflite")),
        "onnx": (vit, edge.export(vit, folder / "model.onnx")),
        "hybrid": (quantized_vit, vit_file),
    }


@contextlib.contextmanager
def changed(model, name, scale):
    """Multiply the kernel of the layers with some name by a number while the block runs."""
    variables = [weight for weight in model.weights if weight.path.endswith(f"{name}/kernel")]
    assert variables, [weight.path for weight in model.weights]
    before = [variable.numpy() for variable in variables]
    for variable, values in zip(variables, before, strict=True):
        variable.assign(scale * values)
    try:
        yield
    finally:
        for variable, values in zip(variables, before, strict=True):
            variable.assign(values)


@pytest.mark.parametrize("kind", ["tflite", "onnx", "hybrid"])
def test_the_layers_of_a_right_file_agree(kind, files):
    model, file = files[kind]
    result = edge.verify(model, file, IMAGES, per_layer=True)
    assert result.parts_at is None and len(result.layers) > 15
    assert min(row.snr_db for row in result.layers) > (25 if kind == "hybrid" else 100)
    names = [row.layer for row in result.layers]
    assert len(set(names)) == len(names)
    expected = ["patch_embedding.projection", "block_0.attention.query", "block_0.attention.context", "block_0.add2"]
    assert [name for name in names if name in expected] == expected
    assert edge.verify(model, file, IMAGES).layers is None


@pytest.mark.parametrize("kind", ["tflite", "onnx", "hybrid"])
@pytest.mark.parametrize("layer", ["patch_embedding.projection", "block_0.mlp.contract"])
def test_the_layer_in_which_they_part_is_named(kind, layer, files):
    model, file = files[kind]
    name = layer if kind == "hybrid" else layer.split(".")[-1]
    with changed(model, name, -1):
        result = edge.verify(model, file, IMAGES, per_layer=True)
    # The ReLU of a float file may be that of the layer; the rounding of a quantized model may follow it.
    assert result.parts_at.layer.removesuffix(".fake_quant") == layer
    assert result.parts_at.before_db > 25 and result.parts_at.after_db < 5
    assert f"They part at '{layer}" in str(result)


def test_any_two_of_models_and_files(vit, files):
    tflite, onnx = files["tflite"][1], files["onnx"][1]
    other = make_vit()
    for pair in ((tflite, onnx), (onnx, tflite), (tflite, vit), (vit, other), (tflite, tflite)):
        result = edge.verify(*pair, IMAGES, per_layer=True)
        assert result.snr_db > 100 and len(result.layers) > 10, pair
        assert min(row.snr_db for row in result.layers) > 100, pair
    with changed(other, "expand", 2):
        assert edge.verify(vit, other, IMAGES, per_layer=True).parts_at.layer == "block_0.mlp.expand"
        file = edge.export(other, tflite.replace("model", "other"), verify=False)
        assert edge.verify(tflite, file, IMAGES, per_layer=True).parts_at.layer.startswith("block_0.mlp.expand")


def test_files_that_take_several_images(vit, tmp_path):
    file = edge.export(vit, tmp_path / "model.onnx", batch_size=3)
    result = edge.verify(vit, file, IMAGES, per_layer=True)
    assert min(row.snr_db for row in result.layers) > 100 and len(result.layers) > 15


def test_models_of_several_inputs(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = {"b": keras.Input((4,), name="b"), "a": keras.Input((4,), name="a")}
    x = keras.layers.Dense(3, name="of_b")(inputs["b"]) + keras.layers.Dense(3, name="of_a")(inputs["a"])
    model = keras.Model(inputs, keras.layers.Dense(2, name="last")(x))
    values = {"a": np.ones((3, 4), "float32"), "b": np.full((3, 4), 2, "float32")}
    file = edge.export(model, tmp_path / "model.tflite")
    assert edge.verify(model, file, values, per_layer=True).parts_at is None
    with changed(model, "of_a", 5):
        assert edge.verify(model, file, values, per_layer=True).parts_at is not None


def test_the_command_line(vit, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", IMAGES)
    with changed(vit, "contract", -1):
        vit.save("changed.keras")
    assert main(["verify", "changed.keras", files["tflite"][1], "--images", "images.npy", "--per-layer", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parts_at"]["layer"] == "block_0.mlp.contract"
    assert facts["layers"][2]["snr_db"] > 100 and facts["layers"][-1]["snr_db"] < 60
    assert main(["verify", files["tflite"][1], "changed.keras", "--images", "images.npy", "--per-layer"]) == 0
    assert "They part at 'block_0.mlp.contract'" in capsys.readouterr().out


@pytest.mark.parametrize("scheme", ["hybrid_int8", "full_int8", "int8_int16"])
def test_a_layer_is_compared_behind_the_relu_in_its_operator(scheme, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.ReLU()(keras.layers.Conv2D(6, 3, name="first")(image))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, activation="relu", name="second")(x))
    images = np.random.default_rng(0).standard_normal((16, 8, 8, 3)).astype("float32")
    quantized = edge.quantize_aware(model, scheme=scheme, calibration_data=images)
    file = edge.export(quantized, tmp_path / "model.tflite")
    rows = edge.verify(quantized, file, images, per_layer=True).layers
    assert rows and min(row.snr_db for row in rows) > 40
