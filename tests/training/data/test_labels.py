"""Labels as people have them, in arrays and in CSV files."""

import numpy as np
import pytest
from PIL import Image

from keras_vit import training
from tests.training.pictures import picture

IMAGES = np.stack([picture(number, 16, 16) for number in range(12)])
NUMBERS = np.arange(12) % 3
PLAIN = {"batch_size": 12, "augmentation": None, "statistics": None, "evaluation": training.CenterCrop(1.0)}


def labeled(labels, **settings):
    """Return the class names, and the class number of each image, from its batches."""
    data = training.arrays(IMAGES, labels, validation=(IMAGES, labels), **PLAIN, **settings)
    found = {}
    for batches in (data.train(0), data.validation):
        (batch,) = batches
        for image, label in zip(*map(np.asarray, batch), strict=True):
            (index,) = (i for i in range(12) if np.array_equal(IMAGES[i], image))
            assert label.sum() == 1 and found.setdefault(index, label.argmax()) == label.argmax()
    return data.class_names, [int(found[index]) for index in range(12)]


WORDS = np.array(["cat", "dog", "elk"])


@pytest.mark.parametrize(
    ("labels", "settings", "names", "numbers"),
    [
        (NUMBERS, {}, "012", NUMBERS),
        (NUMBERS[:, None], {}, "012", NUMBERS),
        (NUMBERS.astype("uint8"), {"class_names": WORDS}, WORDS, NUMBERS),
        (NUMBERS.astype("float32"), {}, "012", NUMBERS),
        (list(map(int, NUMBERS)), {}, "012", NUMBERS),
        (np.eye(3)[NUMBERS], {}, "012", NUMBERS),
        (np.eye(3, dtype=bool)[NUMBERS], {"class_names": WORDS}, WORDS, NUMBERS),
        (WORDS[::-1][NUMBERS], {}, WORDS, 2 - NUMBERS),
        (WORDS[NUMBERS], {"class_names": WORDS[::-1]}, WORDS[::-1], 2 - NUMBERS),
        (WORDS.astype("S")[NUMBERS], {}, WORDS, NUMBERS),
        (WORDS.astype(object)[NUMBERS], {}, WORDS, NUMBERS),
        (NUMBERS > 0, {}, ["False", "True"], NUMBERS > 0),
        (NUMBERS > 0, {"class_names": ["bad", "good"]}, ["bad", "good"], NUMBERS > 0),
        (NUMBERS + 1, {}, "123", NUMBERS),
        (NUMBERS + 1, {"class_names": WORDS}, WORDS, NUMBERS),
        (NUMBERS * 10 + 7, {}, ["7", "17", "27"], NUMBERS),
        (np.array(["7", "17", "27"])[NUMBERS], {}, ["7", "17", "27"], NUMBERS),
        (NUMBERS * 10 + 7, {"class_names": ["27", "17", "7"]}, ["27", "17", "7"], 2 - NUMBERS),
        (np.array(["001", "010", "100"])[NUMBERS], {}, ["001", "010", "100"], NUMBERS),
        (NUMBERS, {"class_names": ["1", "0", "2"]}, "102", [1, 0, 2] * 4),
        (np.eye(3)[NUMBERS], {"class_names": ["1", "0", "2"]}, "102", NUMBERS),
    ],
)
def test_labels_of_any_usual_kind(labels, settings, names, numbers):
    assert labeled(labels, **settings) == (tuple(names), [int(number) for number in numbers])


def test_a_numbering_that_does_not_start_at_0_is_said(capsys):
    labeled(NUMBERS * 2 + 5)
    assert (
        "the labels don't count from 0. Label -> column of the scores: 5 -> 0, 7 -> 1, 9 -> 2."
        in capsys.readouterr().err
    )
    labeled(NUMBERS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (np.where(NUMBERS > 1, 0.5, NUMBERS), {}, "row 2: the label .*0.5.* is no class"),
        (np.where(NUMBERS > 1, np.nan, NUMBERS), {}, "row 2: the label .*nan.* is no class"),
        (np.array(["a", None, "b"] * 4, object), {}, "row 1: the label None is no class"),
        (np.array(["a", "", "b"] * 4), {}, "row 1: the label .* is no class"),
        (WORDS[NUMBERS], {"class_names": ["cat", "Dog", "elk"]}, "row 1: the label 'dog' .*cat, Dog.*mean 'Dog'"),
        (NUMBERS, {"class_names": ["a", "b"]}, "row 2: the label 2 is not one of the 2 classes: a, b"),
        (NUMBERS, {"class_names": ["a", "b", "a"]}, "Class names must differ"),
        (NUMBERS, {"class_names": ["1", "10", "2"]}, "row 0: the label 0 is not one of the 3 classes: 1, 10, 2"),
        (np.ones((12, 3)), {}, r"row 0: a one-hot label has a single 1; received \[1\.0, 1\.0, 1\.0\].*loss="),
        (np.zeros((12, 3)), {}, "row 0: a one-hot label has a single 1"),
        (np.eye(3)[NUMBERS], {"class_names": ["a", "b"]}, "3 columns, but there are 2 class names"),
        (NUMBERS.reshape(12, 1, 1), {}, r"received \(12, 1, 1\)"),
        (NUMBERS[:-1], {}, "one label for each of the 12 images; received 11"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_the_row(labels, settings, message):
    with pytest.raises(ValueError, match=message):
        training.arrays(IMAGES, labels, **PLAIN, **settings)


def test_a_validation_label_that_the_training_images_lack_is_refused_with_the_row():
    with pytest.raises(ValueError, match="validation arrays, row 4: the label 9 is not one of the 3 classes: 0, 1, 2"):
        training.arrays(IMAGES, NUMBERS, validation=(IMAGES, [0, 1, 2, 0, 9] + [0] * 7), **PLAIN)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[..., 0], r"last axis with one channel: images\[\.\.\., None\]; received \(12, 16, 16\)"),
        (np.zeros((12, 16, 16, 4), "uint8"), r"Leave out the alpha channel"),
        ([*IMAGES[:11], IMAGES[0, :8]], "Images of different sizes don't fit into one array"),
    ],
)
def test_images_of_another_shape_are_refused_with_what_would_do(images, message):
    with pytest.raises(ValueError, match=message):
        training.arrays(images, NUMBERS, **PLAIN)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(6):
        Image.fromarray(picture(number, 16, 16)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path


NAMES = ["cat", "dog"] * 3


def listed(root, text, encoding="utf-8", **settings):
    """Return the class names, and the label of each image, from the batches of a CSV file."""
    (root / "list.csv").write_bytes(text.encode(encoding))
    data = training.csv_images(root / "list.csv", image_size=16, **{**PLAIN, "batch_size": 1}, **settings)
    pixels = [picture(number, 16, 16) for number in range(6)]
    found = {}
    for batches in (data.train(0), data.validation, data.test):
        for images, labels in batches or ():
            (index,) = (i for i in range(6) if np.array_equal(pixels[i], images[0]))
            found[index] = data.class_names[int(np.argmax(labels))]
    return data, [found.get(index) for index in range(6)]


def rows(*cells, delimiter=","):
    """Return the rows for all images: cells with {i} for the number of the image and {name} for its label."""
    return "\n".join(delimiter.join(cells).format(i=index, name=name) for index, name in enumerate(NAMES)) + "\n"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (rows("pictures/{i}.png", "{name}"), {}),
        ("path,label\n" + rows("pictures/{i}.png", "{name}"), {}),
        ("Image,Class\n" + rows("pictures/{i}.png", "{name}"), {}),
        ("label;file_name\n" + rows("{name}", "pictures/{i}.png", delimiter=";"), {}),
        ("FilePath\tCategory\n" + rows("pictures/{i}.png", "{name}", delimiter="\t"), {}),
        ("id|Image Path|target|width\n" + rows("{i}", "pictures/{i}.png", "{name}", "16", delimiter="|"), {}),
        ("image_id,label\n" + rows("{i}", "{name}"), {"folder": "pictures"}),
        ("filename,diagnosis\n" + rows("{i}.png", "{name}"), {"folder": "pictures"}),
        (
            "what,where,who\n" + rows("{name}", "pictures\\{i}.png", "x"),
            {"path_column": "where", "label_column": "what"},
        ),
        (rows("pictures/{i}.png", "{name}", delimiter=" "), {}),
        (rows("pictures/{i}.png", "{name}").replace("\n", "\r\n\r\n"), {}),
        (rows('"pictures/{i}.png"', ' "{name}" ').replace(' "', '"').replace('" ', '"'), {}),
    ],
)
def test_csv_files_of_any_usual_form(folder, text, settings):
    if "folder" in settings:
        settings = {"folder": folder / settings["folder"]}
    data, labels = listed(folder, text, **settings)
    assert data.class_names == ("cat", "dog") and labels == NAMES


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_csv_files_in_other_encodings(folder, encoding):
    text = "image,label\n" + rows("pictures/{i}.png", "{name}").replace("cat", "K\u00e4tzchen").replace(
        "dog", "H\u00fcndchen"
    )
    data, labels = listed(folder, text, encoding)
    assert data.class_names == ("H\u00fcndchen", "K\u00e4tzchen") and labels[:2] == ["K\u00e4tzchen", "H\u00fcndchen"]


def test_what_is_read_from_a_csv_file_is_said(folder, capsys):
    (folder / "mine.csv").write_bytes(
        ("image;Klasse\n" + rows("pictures/{i}.png", "{name}\u00e4", delimiter=";")).encode("cp1252")
    )
    training.csv_images(folder / "mine.csv", image_size=16, label_column="Klasse", **PLAIN | {"batch_size": 1})
    told = capsys.readouterr().err
    assert "mine.csv: the text is not UTF-8; it was read as cp1252" in told
    assert "column 'image' has the path, column 'Klasse' has the label" in told


def test_a_csv_file_may_have_the_split(folder):
    splits = ["train", "train", "Training", "valid", "test", "TEST"]
    text = "image,label,split\n" + "".join(
        f"pictures/{i}.png,{name},{split}\n" for i, (name, split) in enumerate(zip(NAMES, splits, strict=True))
    )
    data, labels = listed(folder, text)
    assert labels == NAMES and data.settings["train"]["images"] == 3 and len(list(data.test)) == 2
    with pytest.raises(ValueError, match=r"line 2: 'fold 3' is no split; it must be train, validation or test"):
        listed(folder, text.replace("train\n", "fold 3\n", 1))
    with pytest.raises(ValueError, match="lists no training images, only those for test"):
        listed(folder, "image,label,split\npictures/0.png,cat,test\n")


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (
            "image,cat,dog\n" + rows("pictures/{i}.png", "0", "1"),
            {},
            r"which column has the labels\. Pass label_column, one of",
        ),
        ("a,b\n" + rows("pictures/{i}.png", "{name}"), {}, "no image 'a'.*If the first row names the columns"),
        ("image,label\n" + rows("pictures/{i}.png", "{name}"), {"label_column": "y"}, "no column 'y' for the labels"),
        ("image,label\npictures/0.png,\n", {}, "line 2: a row must be a path and a label, and one is empty"),
        (rows("pictures/{i}.png", "{name}"), {"class_names": ["cat", "Dog"]}, "line 2: the label 'dog'.*mean 'Dog'"),
    ],
)
def test_csv_files_that_are_unclear_are_refused_with_what_would_do(folder, text, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        listed(folder, text, **settings)


def test_a_path_without_its_ending_must_be_of_one_file(folder):
    (folder / "pictures" / "0.jpg").write_bytes((folder / "pictures" / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"line 1: 'pictures/0' could be .*0\.jpg or .*0\.png"):
        listed(folder, rows("pictures/{i}", "{name}"))
