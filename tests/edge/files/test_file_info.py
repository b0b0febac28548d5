"""Exported files say what they are: names, classes, preprocessing, scheme, versions, runtime and hash."""

import dataclasses
import hashlib
import json
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.cli.main import main
from tests.edge.models import IMAGES

CLASSES = ("cat", "dog", "bird \N{SNOWMAN}")


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(0)
    model = keras_vit.ViT(input_shape=(16, 16, 3), patch_size=8, width=16, depth=1, num_heads=1, classes=3, name="own")
    keras_vit.set_class_names(model, CLASSES)
    return model


@pytest.fixture(scope="module")
def files(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    quantized = edge.quantize_aware(classifier, calibration_data=IMAGES)
    return {
        "tflite": edge.export(classifier, folder / "model.tflite"),
        "onnx": edge.export(classifier, folder / "model.onnx", "float16"),
        "int8": edge.export(quantized, folder / "int8.tflite"),
    }, quantized


@pytest.mark.parametrize("kind", ["tflite", "onnx", "int8"])
def test_a_file_describes_its_model(kind, classifier, files):
    info = edge.file_info(files[0][kind])
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in info.inputs] == [
        ("image", (1, 16, 16, 3), "float32")
    ]
    assert [(tensor.name, tensor.shape) for tensor in info.outputs] == [
        ("predictions" if kind == "onnx" else "output_0", (1, 3))
    ]
    said = info.description
    assert said.model == "own" and said.class_names == CLASSES
    assert said.precision == {"tflite": "float32", "onnx": "float16", "int8": "hybrid_int8"}[kind]
    scheme = edge.Scheme.from_dict(said.scheme)
    assert dataclasses.replace(scheme, symmetric=False) == edge.SCHEMES[said.precision]
    assert scheme.symmetric == (kind == "onnx")  # As TensorRT demands.
    assert said.versions == {name: metadata.version(name) for name in ("keras", "tensorflow")} | {
        "keras_vit": keras_vit.__version__
    }
    assert said.weights_sha256 == edge.weights_hash(files[1] if kind == "int8" else classifier)
    assert info.size_bytes == len(Path(info.file).read_bytes())


def test_the_preprocessing_is_that_of_the_model(classifier, files):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype("float32")
    prepared = keras_vit.preprocess_input(pixels, classifier)
    for file in files[0].values():
        said = edge.file_info(file).description.preprocessing
        # A picture of the input's size is resized and cropped to its center first.
        facts = keras_vit.models.model_images.image_facts(classifier)
        assert (said.crop_fraction, said.interpolation) == (facts.crop_fraction, facts.interpolation)
        cropped = keras_vit.models.preprocessing.resize_and_crop(
            pixels[None], (16, 16), said.crop_fraction, said.interpolation
        )
        np.testing.assert_allclose(np.array(said.scale) * cropped[0] + np.array(said.offset), prepared, atol=1e-5)
        assert said.range == pytest.approx((-1, 1)) and said.mean == said.std == (0.5, 0.5, 0.5)


def test_a_file_that_normalizes_images_takes_pixels(tmp_path):
    model = keras_vit.ViT(
        include_preprocessing=True, input_shape=(16, 16, 3), patch_size=8, width=16, depth=1, num_heads=1, classes=3
    )
    said = edge.file_info(edge.export(model, tmp_path / "model.onnx")).description.preprocessing
    assert said.mean is said.std is None
    assert (said.scale, said.offset, said.range) == ((1, 1, 1), (0, 0, 0), (0, 255))


def test_the_oldest_runtime(files):
    assert edge.file_info(files[0]["tflite"]).min_runtime.startswith("TensorFlow Lite 2.")
    for file in (files[0]["tflite"], files[0]["int8"]):
        assert edge.file_info(file).min_runtime == f"TensorFlow Lite {edge.audit(file).min_runtime}"
        assert edge.file_info(file).description.min_runtime == edge.file_info(file).min_runtime
    assert edge.file_info(files[0]["onnx"]).min_runtime == "onnxruntime 1.17"


def test_quantized_inputs_have_a_grid(tmp_path):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    file = edge.export(model, tmp_path / "model.tflite", "full_int8", calibration_data=IMAGES)
    info = edge.file_info(file)
    (taken,) = info.inputs
    assert taken.dtype == "int8"
    low, high = (taken.scale * (integer - taken.zero_point) for integer in (-128, 127))
    # Ranges of least error clip a few extreme values.
    assert 0.5 < low / IMAGES.min() < 1.05 and 0.5 < high / IMAGES.max() < 1.05
    # A user's model knows neither its classes nor its preprocessing.
    assert info.description.class_names is info.description.preprocessing is None


def test_the_hash_follows_the_weights_alone(classifier, tmp_path):
    before = edge.weights_hash(classifier)
    classifier.save(tmp_path / "model.keras")
    assert edge.weights_hash(keras.models.load_model(tmp_path / "model.keras")) == before
    variable = classifier.weights[3]
    values = variable.numpy()
    variable.assign(values + 1)
    assert edge.weights_hash(classifier) != before
    variable.assign(values)
    assert edge.weights_hash(classifier) == before
    digest = hashlib.sha256()
    for weight in classifier.weights:
        digest.update(f"float32{tuple(weight.shape)}".encode() + weight.numpy().astype("<f4").tobytes())
    assert digest.hexdigest() == before


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_files_of_the_same_model_are_equal(kind, classifier, files, tmp_path):
    precision = {"tflite": "float32", "onnx": "float16"}[kind]
    again = edge.export(classifier, tmp_path / f"model.{kind}", precision)
    assert Path(again).read_bytes() == Path(files[0][kind]).read_bytes()


def test_other_files(classifier, tflite_files, tmp_path):
    info = edge.file_info(tflite_files["batch_of_4"])
    assert info.description is None and info.inputs[0].shape == (4, 8, 8, 3)
    assert "info" in str(info) and json.loads(json.dumps(info.to_dict()))["description"] is None
    # A description of another kind, such as of a version to come, is no error.
    proto = onnx.load(edge.export(classifier, tmp_path / "model.onnx"))
    for entry in proto.metadata_props:
        if entry.key == "keras_vit_description":
            entry.value = '{"model": 3}'
    onnx.save(proto, tmp_path / "other.onnx")
    assert edge.file_info(tmp_path / "other.onnx").description is None


def test_pictures_are_prepared_as_a_file_says(classifier, files, tmp_path, monkeypatch, capsys):
    from tests.training.pictures import write_folder

    monkeypatch.chdir(tmp_path)
    write_folder(Path("pictures"), classes=2)
    paths = sorted(map(str, Path("pictures").rglob("*.*")))
    np.save("prepared.npy", keras_vit.preprocess_input(paths, classifier))
    results = []
    for images in ("pictures", "prepared.npy"):
        assert main(["verify", files[0]["tflite"], files[0]["int8"], "--images", images, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert results[0] == results[1] and results[0]["images"] == len(paths) and results[0]["snr_db"] < 60


def test_the_command_line(files, capsys):
    assert main(["info", files[0]["tflite"], "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads(json.dumps(edge.file_info(files[0]["tflite"]).to_dict()))
    assert facts["description"]["precision"] == "float32" and facts["inputs"][0]["name"] == "image"
    assert main(["info", files[0]["onnx"]]) == 0
    text = capsys.readouterr().out
    for part in ("cat, dog, bird", "float16", "onnxruntime 1.17 or newer", "trtexec --onnx=model.onnx", "bicubic"):
        assert part in text


class TestBadInput:
    def test_files_that_are_not_usable(self, broken_files, tmp_path):
        for name, path in broken_files.items():
            with pytest.raises((ValueError, OSError), match=Path(path).name) as raised:
                edge.file_info(path if name != "folder" else f"{path}/")
            assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09"])
    def test_onnx_files_that_are_not_usable(self, content, tmp_path):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=r"m\.onnx is .*not an ONNX file"):
            edge.file_info(tmp_path / "m.onnx")

    def test_another_kind_of_file(self):
        with pytest.raises(ValueError, match=r"must end in \.tflite or \.onnx; received 'model\.keras'"):
            edge.file_info("model.keras")

    def test_a_model_that_takes_other_images_is_refused(self, classifier, files):
        other = keras_vit.ViT(
            include_preprocessing=True, input_shape=(16, 16, 3), patch_size=8, width=16, depth=1, num_heads=1, classes=3
        )
        with pytest.raises(ValueError, match=r"takes images normalized by mean 0\.5 .*takes pixels from 0 to 255"):
            edge.verify(other, files[0]["tflite"], 100 * np.abs(IMAGES))

    def test_a_file_that_does_not_say_how_it_takes_pictures(self, tflite_files, tmp_path, capsys):
        assert main(["verify", *[tflite_files["float32"]] * 2, "--images", str(tmp_path / "photo.jpg")]) == 1
        assert "does not say how it takes pictures" in capsys.readouterr().err
