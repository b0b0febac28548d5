"""`keras-vit evaluate`: which images it measures, and how it normalizes them."""

import json
import re

import keras
import numpy as np
import pytest
from PIL import Image

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

    def evaluation_data(source, **pipeline):
        given.update(pipeline)
        return real(source, **pipeline)

    real = training.evaluation_data
    monkeypatch.setattr(training, "evaluation_data", evaluation_data)
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
    result = json.loads(run(capsys, *arguments, "--statistics", "half", "--split", "validation", "--json")[1])
    expected = top1(keras.models.load_model(arguments[0]), pictures, statistics=HALF, augmentation=None)
    assert result["split"] == "validation" and result["top1"] == pytest.approx(expected["accuracy"])


def test_a_model_that_normalizes_gets_raw_images(tmp_path, pictures, capsys, monkeypatch):
    model = keras_vit.MobileViTV2_050(input_shape=(32, 32, 3), classes=3, include_preprocessing=True)
    model.save(tmp_path / "model.keras")
    seen = []
    real = training.evaluate
    monkeypatch.setattr(
        training, "evaluate", lambda m, d, **names: seen.append(next(iter(d.batches))[0]) or real(m, d, **names)
    )
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


# Images of these colors; a model that is as good as a look at them tells what it is asked.
COLORS = {"Lime": 1, "apple": 0, "sea": 2}


def write_colors(folder, images):
    """Write images of one channel's color for each class: {class: number of images}."""
    for name, count in images.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            color = np.zeros((20, 20, 3), "uint8")
            color[..., COLORS[name]] = 255 - index
            Image.fromarray(color).save(folder / name / f"{index}.png")


def knowing(path, names=None):
    """Save a model whose scores are the means of the channels, with names for them."""
    image = keras.Input((16, 16, 3))
    x = keras_vit.layers.Preprocessing(0.0, 1.0)(image)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    keras_vit.set_class_names(model, names)
    model.save(path)
    return path


def evaluated(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_classes_are_matched_by_name(tmp_path, capsys):
    write_colors(tmp_path / "holdout", {"Lime": 5, "apple": 3, "sea": 1})
    model = knowing(tmp_path / "model.keras", ("apple", "Lime", "sea"))  # The folders are Lime, apple, sea.
    result = evaluated(capsys, model, "--data", tmp_path / "holdout")
    # The whole folder, without a full batch.
    assert (result["images"], result["split"], result["top1"]) == (9, "all", 1.0)
    assert [row["name"] for row in result["per_class"]] == ["apple", "Lime", "sea"]
    write_colors(tmp_path / "part", {"sea": 2})
    result = evaluated(capsys, model, "--data", tmp_path / "part")
    assert (result["images"], result["top1"]) == (2, 1.0)


def test_other_classes_are_refused_by_name(tmp_path, capsys):
    write_colors(tmp_path / "holdout", {"Lime": 5, "apple": 3, "sea": 1})
    model = knowing(tmp_path / "model.keras", ("apple", "lime", "pear"))
    error = run(capsys, model, "--data", tmp_path / "holdout")[2]
    assert "Lime, sea, not among the 3 known classes: apple, lime, pear. There, Lime is written lime" in error


def test_without_names_the_order_of_the_folders_is_assumed_and_said(tmp_path, capsys):
    write_colors(tmp_path / "holdout", {"Lime": 5, "apple": 3, "sea": 1})
    model = knowing(tmp_path / "model.keras")
    _, out, err = run(capsys, model, "--data", tmp_path / "holdout", "--json")
    assert json.loads(out)["top1"] == pytest.approx(1 / 9)  # "Lime" counts as the first channel.
    assert "no class names; its scores are taken to be in the order of the classes" in err


def test_the_run_has_the_names_of_a_model_that_has_no_place_for_them(tmp_path, capsys):
    write_colors(tmp_path / "data", {"Lime": 10, "apple": 10})
    settings = {"image_size": 16, "batch_size": 4, "statistics": UNIT}
    data = training.image_folder(tmp_path / "data", class_names=["apple", "Lime"], **settings)
    run_dir = tmp_path / "run"
    model = convnet(classes=2)
    training.fit(model, data, epochs=8, learning_rate=0.1, run_dir=run_dir, verbose=0)
    assert keras_vit.class_names(model) is None
    write_colors(tmp_path / "holdout", {"Lime": 5, "apple": 3})
    assert evaluated(capsys, run_dir / "best.keras", "--data", tmp_path / "holdout")["top1"] == 1.0


def test_of_the_training_folder_only_the_other_images_are_measured(tmp_path, capsys):
    write_colors(tmp_path / "data", {"Lime": 10, "apple": 20})
    data = training.image_folder(tmp_path / "data", image_size=16, batch_size=4, validation_fraction=0.3)
    model = keras_vit.ViT(classes=2, input_shape=(16, 16, 3), patch_size=8, width=16, depth=1, num_heads=2)
    best = training.fit(model, data, epochs=1, learning_rate=0.01, run_dir=tmp_path / "run", verbose=0).best_model
    result = evaluated(capsys, best, "--data", tmp_path / "data")
    assert (result["images"], result["split"]) == (9, "validation")
    assert evaluated(capsys, best, "--data", tmp_path / "data", "--split", "all")["images"] == 30
    assert "no test images; it has no splits" in run(capsys, best, "--data", tmp_path / "data", "--split", "test")[2]


def test_each_split_of_a_folder_or_list_can_be_measured(tmp_path, capsys):
    model = knowing(tmp_path / "model.keras", ("apple", "Lime", "sea"))
    for count, split in ((4, "Training"), (3, "dev"), (2, "Testing")):
        write_colors(tmp_path / "data" / split, {"Lime": count, "apple": count})
    for split, count in ((None, 4), ("test", 4), ("validation", 6), ("train", 8)):
        option = [] if split is None else ["--split", split]
        assert evaluated(capsys, model, "--data", tmp_path / "data", *option)["images"] == count
    rows = "".join(
        f"data/dev/{name}/0.png,{name},{split}\n" for name in ("Lime", "apple") for split in ("train", "test")
    )
    (tmp_path / "list.csv").write_text("file,class,split\n" + rows + "data/dev/Lime/1.png,Lime,train\n")
    assert evaluated(capsys, model, "--data", tmp_path / "list.csv")["images"] == 2
    assert evaluated(capsys, model, "--data", tmp_path / "list.csv", "--split", "train")["images"] == 3
    (tmp_path / "all.csv").write_text("data/dev/Lime/1.png,Lime\n")
    assert evaluated(capsys, model, "--data", tmp_path / "all.csv")["top1"] == 1.0
