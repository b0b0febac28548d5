"""`keras-vit evaluate`: which images it measures, and how it normalizes them."""

import json
import re

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import training
from keras_vit.cli.main import main
from keras_vit.models.image_facts import HALF, UNIT
from tests.training.pictures import write_folder


def run(capsys, *arguments):
    code = main(["evaluate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def convnet(size=16, channels=3, classes=3, name="mine"):
    image = keras.Input((size, size, channels))
    x = keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes)(x), name=name)


def top1(model, path, **pipeline):
    data = training.image_folder(path, image_size=16, batch_size=4, **pipeline)
    model.compile(metrics=["accuracy"], loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    return model.evaluate(data.validation, verbose=0, return_dict=True)


@pytest.fixture
def pictures(tmp_path):
    write_folder(tmp_path / "pictures", images=9)
    return tmp_path / "pictures"


def test_digits(tmp_path, capsys):
    keras_vit.ViT(input_shape=(16, 16, 1), patch_size=4, width=24, depth=1, num_heads=3, classes=10).save(
        tmp_path / "model.keras"
    )
    code, out, _ = run(capsys, tmp_path / "model.keras", "--data", "digits", "--output", tmp_path / "results")
    assert code == 0 and "on the test images of digits, 16 x 16" in out and "confusion.png" in out
    written = json.loads((tmp_path / "results" / "evaluation.json").read_text())
    assert re.search(rf"all classes +360 +{written['top1']:.2%}", out)
    code, out, _ = run(capsys, tmp_path / "model.keras", "--data", "digits", "--split", "validation", "--json")
    assert json.loads(out)["images"] == 180
    assert run(capsys, tmp_path / "model.keras", "--data", "digits", "--image-size", 32)[0] == 0


def test_the_run_says_how_to_normalize(tmp_path, pictures, capsys):
    """A model that was trained on images in [0, 1] is evaluated on such images."""
    data = training.image_folder(pictures, image_size=16, batch_size=4, statistics=UNIT, validation_fraction=0.5)
    model = convnet(name="vit_b16")  # run.json takes precedence over the name, whose images are in [-1, 1].
    training.fit(model, data, epochs=1, learning_rate=0.1, run_dir=tmp_path / "run", verbose=0)
    code, out, _ = run(capsys, tmp_path / "run" / "best.keras", "--data", pictures, "--batch-size", 4)
    assert code == 0 and "normalized by Statistics(mean=0.0, std=1.0)" in out


def test_the_name_or_the_option_says_how_to_normalize(tmp_path, pictures, capsys, monkeypatch):
    given = {}

    def open_data(source, **pipeline):
        given.update(pipeline)
        return real(source, **pipeline)

    real = training.open_data
    monkeypatch.setattr(training, "open_data", open_data)
    arguments = [tmp_path / "model.keras", "--data", pictures, "--batch-size", 4]
    convnet(name="vit_b16.augreg_in21k_ft_in1k_384").save(arguments[0])
    assert run(capsys, *arguments)[0] == 0
    assert given["statistics"] == HALF
    assert run(capsys, *arguments, "--statistics", "unit")[0] == 0
    assert given["statistics"] == UNIT
    assert run(capsys, *arguments, "--statistics", "none")[0] == 0
    assert given["statistics"] is None

    convnet().save(arguments[0])
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "no builder of keras_vit made 'mine'. Pass --statistics" in err
    result = json.loads(run(capsys, *arguments, "--statistics", "half", "--json")[1])
    expected = top1(keras.models.load_model(arguments[0]), pictures, statistics=HALF, augmentation=None)
    assert result["split"] == "validation" and result["top1"] == pytest.approx(expected["accuracy"])


def test_a_model_that_normalizes_gets_raw_images(tmp_path, pictures, capsys, monkeypatch):
    model = keras_vit.MobileViTV2_050(input_shape=(32, 32, 3), classes=3, include_preprocessing=True)
    model.save(tmp_path / "model.keras")
    seen = []
    real = training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda m, d, c: seen.append(next(iter(d))[0]) or real(m, d, c))
    assert run(capsys, tmp_path / "model.keras", "--data", pictures, "--batch-size", 4)[0] == 0
    assert np.max(seen[0]) > 100


def test_errors(tmp_path, pictures, capsys):
    assert "There is no model file" in run(capsys, tmp_path / "no.keras", "--data", "digits")[2]
    assert "received 'vit_b16'" in run(capsys, "vit_b16", "--data", "digits")[2]
    convnet(classes=7).save(tmp_path / "model.keras")
    arguments = [tmp_path / "model.keras", "--statistics", "half", "--batch-size", 4, "--data"]
    assert "there is no folder 'nowhere'" in run(capsys, *arguments, "nowhere")[2]
    assert "3 class names" in run(capsys, *arguments, pictures)[2]
    assert "no test images" in run(capsys, *arguments, pictures, "--split", "test")[2]
    (tmp_path / "run.json").write_text("{}")
    assert "is not what training.fit writes" in run(capsys, *arguments, pictures)[2]
