"""Which folders are splits, classes or neither, and which files are images."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_vit import training
from tests.training.pictures import picture, write_folder

PLAIN = {"image_size": 8, "batch_size": 1, "augmentation": None, "statistics": None}


def write(root, *folders, images=3):
    """Write images into each folder, such as "train/cat"."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(images):
            Image.fromarray(picture(100 * number + index, 12, 12)).save(root / folder / f"{index}.png")


def sizes(data):
    """Return the number of images of each split."""
    return {
        name: sum(len(images) for images, _ in batches)
        for name, batches in (("train", data.train(0)), ("validation", data.validation), ("test", data.test))
        if batches is not None
    }


@pytest.mark.parametrize(
    "names",
    [
        {"train": "train", "validation": "val", "test": "test"},
        {"train": "Train", "test": "Test"},
        {"train": "Training", "test": "Testing"},
        {"train": "training", "test": "testing"},
        {"train": "TRAIN", "validation": "VALID"},
        {"train": "training_set", "validation": "Dev", "test": "test-set"},
        {"train": "train data", "validation": "Validation"},
        {"train": "trn", "test": "Tests", "validation": "eval"},
    ],
)
def test_splits_have_their_usual_names_in_any_case(tmp_path, capsys, names):
    for images, (_, name) in enumerate(names.items(), start=2):
        write(tmp_path, f"{name}/cat", f"{name}/dog", images=images)
    data = training.image_folder(tmp_path, **PLAIN)
    expected = {split: 2 * images for images, split in enumerate(names, start=2)}
    if "validation" not in names:
        expected |= {"train": 2, "validation": 2}
    assert data.class_names == ("cat", "dog") and sizes(data) == expected
    told = capsys.readouterr().err
    assert all(f" in {name}" in told for name in names.values()) and "2 classes (cat, dog)" in told
    training.image_folder(tmp_path, **PLAIN)
    assert capsys.readouterr().err == ""  # Once.


@pytest.mark.parametrize("name", ["train", "test", "Validation"])
def test_a_class_may_have_the_name_of_a_split(tmp_path, name):
    write(tmp_path, "bus", "car", name)
    assert set(training.image_folder(tmp_path, **PLAIN).class_names) == {"bus", "car", name}


def test_a_class_with_folders_in_it_that_has_the_name_of_a_split(tmp_path):
    write(tmp_path, "bus", "car", "train/steam", "train/electric")
    with pytest.raises(
        ValueError, match=r"'train' could be a class or the training images of the classes electric, st"
    ):
        training.image_folder(tmp_path, **PLAIN)
    data = training.image_folder(tmp_path, class_names=["train", "bus", "car"], **PLAIN)
    assert data.class_names == ("train", "bus", "car") and sizes(data) == {"train": 9, "validation": 3}
    assert training.image_folder(tmp_path / "train", **PLAIN).class_names == ("electric", "steam")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ["cat", "dog", "test/cat", "test/dog"],
            r"'test' could be a class or the test images .* or into a folder train",
        ),
        (["train", "test"], r"test, train .* have images, but no class folders.*class_names=\['test', 'train'\]"),
        (["train/cat", "Training/cat", "test/cat"], "several folders for the same images: Training, train"),
        (["val/cat", "test/cat"], "no folder of training images, only test, val.*evaluation_data"),
        (["pets/cat", "pets/dog"], r"a single subfolder 'pets', with the folders cat, dog in it\. Pass '.*pets'"),
        (["cat/train", "cat/test", "dog/train"], r"class folder '.*cat' has the folders test, train\. .*test/cat"),
        (
            ["train/Cat", "train/dog", "test/cat"],
            r"the class cat, not among the 2 known classes: Cat, dog\. There, cat is",
        ),
    ],
)
def test_what_is_unclear_is_refused_with_what_would_do(tmp_path, folders, message):
    write(tmp_path, *folders)
    with pytest.raises(ValueError, match=message):
        training.image_folder(tmp_path, **PLAIN)


def test_folders_beside_splits_are_named(tmp_path, capsys):
    write(tmp_path / "pets_a", "train/cat", "train/dog", "test")
    write(tmp_path / "pets_b", "train/cat", "train/dog", "valid/cat", "demo")
    (tmp_path / "pets_b" / "annotations").mkdir()
    assert sizes(training.image_folder(tmp_path / "pets_a", **PLAIN)) == {"train": 4, "validation": 2}
    assert sizes(training.image_folder(tmp_path / "pets_b", **PLAIN)) == {"train": 6, "validation": 3}
    told = capsys.readouterr().err
    assert "pets_a: test is not used" in told and "pets_b: demo is not used" in told and "annotations" not in told


def test_every_file_that_pillow_recognizes_is_an_image(tmp_path, capsys):
    folder = tmp_path / "formats"
    write(folder, "other")
    (folder / "some").mkdir()
    image = Image.fromarray(picture(0, 12, 12))
    endings = ["jpg", "JPG", "jpeg", "jpe", "jfif", "PNG", "bmp", "BMP", "gif", "webp", "tif", "TIFF", "ppm", "tga"]
    for ending in endings:
        image.save(folder / "some" / f"{ending}_.{ending}", {"jfif": "jpeg"}.get(ending.lower()))
    image.save(folder / "some" / "without_an_ending", "png")
    image.save(folder / "some" / "wrong.dat", "jpeg")
    data = training.image_folder(folder, validation_fraction=0.1, **PLAIN)
    used = data.settings["train"]["images"] + data.settings["validation"]["images"]
    assert used == 3 + len(endings) + 2
    assert "not used" not in capsys.readouterr().err


def test_files_that_are_no_images_are_counted_with_examples(tmp_path, capsys):
    folder = tmp_path / "mixed"
    write(folder, "cat", "dog")
    for name in ("cat/a.heic", "cat/notes.txt", "dog/deep/list.xml", "dog/data.bin", "readme.md", "dog/empty"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"" if name.endswith("empty") else b"nothing")
    data = training.image_folder(folder, **PLAIN)
    assert data.settings["train"]["images"] == 4
    told = capsys.readouterr().err
    assert "mixed: 6 files are not used" in told and "a.heic" in told and "and 3 more" in told and "pillow_heif" in told


def test_hidden_and_system_files_are_left_out(tmp_path, capsys):
    folder = tmp_path / "hidden"
    write(folder, "cat", "dog")
    for place in (folder, folder / "cat"):
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
            (place / name).write_bytes(b"system")
        for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"):
            shutil.copytree(folder / "dog", place / name)
    shutil.copy(folder / "cat" / "0.png", folder / "cat" / "._0.png")
    data = training.image_folder(folder, **PLAIN)
    assert data.class_names == ("cat", "dog") and data.settings["train"]["images"] == 4
    assert "not used" not in capsys.readouterr().err


def test_linked_folders_are_followed_once(tmp_path):
    write(tmp_path / "store", "cat", "dog")
    write(tmp_path / "data", "cat")
    os.symlink(tmp_path / "store" / "dog", tmp_path / "data" / "dog")
    os.symlink(tmp_path / "store" / "cat", tmp_path / "data" / "cat" / "more")
    os.symlink(tmp_path / "data" / "cat", tmp_path / "data" / "cat" / "circle")
    assert sizes(training.image_folder(tmp_path / "data", **PLAIN)) == {"train": 7, "validation": 2}


def test_an_accented_class_is_the_same_however_it_is_stored(tmp_path):
    write(tmp_path, "train/\u00c4pfel", "train/Birnen", "test/A\u0308pfel")  # As Linux and macOS store it.
    data = training.image_folder(tmp_path, **PLAIN)
    assert data.class_names == ("Birnen", "\u00c4pfel")
    assert np.concatenate([labels for _, labels in data.test])[:, 1].all()


def test_records_are_written_of_one_split_at_a_time(tmp_path):
    write_folder(tmp_path / "data" / "train")
    write_folder(tmp_path / "data" / "val")
    with pytest.raises(ValueError, match="has the folders train, val; write the records of one at a time"):
        training.write_tfrecords(tmp_path / "data", tmp_path / "records", verbose=False)


def test_all_images_are_for_evaluation(tmp_path):
    write(tmp_path, "cat", "dog", images=2)
    data = training.evaluation_data(tmp_path, class_names=["dog", "cat", "elk"], **{**PLAIN, "batch_size": 64})
    (batch,) = data.batches
    assert (data.images, data.split, data.class_names) == (4, "all", ("dog", "cat", "elk"))
    np.testing.assert_array_equal(batch[1], np.eye(3)[[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="has the class dog, not among the 1 known classes: cat"):
        training.evaluation_data(tmp_path, class_names=["cat"], **PLAIN)
    with pytest.raises(ValueError, match=r"split must be one of .*; received 'holdout'"):
        training.evaluation_data(tmp_path, split="holdout", **PLAIN)
