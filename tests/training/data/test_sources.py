"""Compare the images and labels of each source with an independent reading of its files."""

import csv
import logging

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vit import training
from tests.training.pictures import picture, write_folder

PLAIN = {"image_size": 24, "batch_size": 4, "augmentation": None, "statistics": None}


def together(dataset):
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def evaluated(path_or_array):
    """Preprocess an image as for evaluation: resize it to 24 / 0.875 pixels and crop 24 pixels at its center."""
    image = path_or_array
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else Image.open(image).convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    image = image.resize((int(27 * width / shorter), int(27 * height / shorter)), Image.Resampling.BICUBIC)
    left, top = round((image.width - 24) / 2), round((image.height - 24) / 2)
    return np.asarray(image.crop((left, top, left + 24, top + 24))).astype("float32")


def by_content(images, labels):
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


def assert_holds(data, expected, parts=("train", "validation")):
    """Check that the parts together contain each expected (path or array, class) exactly once."""
    found = [together(data.train(0, 0) if part == "train" else getattr(data, part)) for part in parts]
    for images, labels in found:
        assert images.dtype == labels.dtype == np.float32
        np.testing.assert_array_equal(labels.sum(axis=1), 1)
    images = np.concatenate([images for images, _ in found])
    classes = np.concatenate([labels.argmax(axis=1) for _, labels in found])
    assert by_content(images, classes) == by_content(
        [evaluated(image) for image, _ in expected], [c for _, c in expected]
    )


def class_of(path):
    return int(path.parent.name.removeprefix("class_"))


def test_image_folder_without_parts(tmp_path):
    paths = write_folder(tmp_path)
    (tmp_path / "class_0" / "notes.txt").write_text("no image")
    data = training.image_folder(tmp_path, validation_fraction=0.34, **PLAIN)
    assert data.class_names == ("class_0", "class_1", "class_2") and data.input_shape == (24, 24, 3)
    assert data.steps_per_epoch == 3 and data.test is None
    assert_holds(data, [(path, class_of(path)) for path in paths])
    assert together(data.validation)[1].sum(axis=0).tolist() == [2, 2, 2]
    with pytest.raises(AssertionError):  # The check can fail.
        assert_holds(data, [(path, 2 - class_of(path)) for path in paths])


def test_image_folder_split_does_not_depend_on_the_seed(tmp_path):
    write_folder(tmp_path)
    one, other = (training.image_folder(tmp_path, seed=seed, **PLAIN) for seed in (1, 2))
    np.testing.assert_array_equal(together(one.validation)[0], together(other.validation)[0])


def test_image_folder_with_train_val_and_test_folders(tmp_path):
    parts = {name: write_folder(tmp_path / name, images=4) for name in ("train", "val", "test")}
    data = training.image_folder(tmp_path, **PLAIN)
    for name, part in (("train", "train"), ("val", "validation"), ("test", "test")):
        assert_holds(data, [(path, class_of(path)) for path in parts[name]], parts=[part])


def test_csv_images(tmp_path):
    paths = write_folder(tmp_path / "images")
    names = ["rose", "iris", "tulip"]
    for file, header, label in (("names.csv", True, names.__getitem__), ("numbers.csv", False, str)):
        with open(tmp_path / file, "w", newline="") as text:
            writer = csv.writer(text)
            writer.writerows([("path", "label")] * header)
            writer.writerows((path.relative_to(tmp_path), label(class_of(path))) for path in paths)
    data = training.csv_images(tmp_path / "names.csv", class_names=names, validation_fraction=0.34, **PLAIN)
    assert data.class_names == ("rose", "iris", "tulip")
    assert_holds(data, [(path, class_of(path)) for path in paths])
    data = training.csv_images(tmp_path / "names.csv", validation_fraction=0.34, **PLAIN)
    assert data.class_names == ("iris", "rose", "tulip")
    data = training.csv_images(tmp_path / "numbers.csv", tmp_path / "names.csv", class_names=names, **PLAIN)
    assert_holds(data, [(path, class_of(path)) for path in paths], parts=["validation"])


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_arrays(kind):
    images = np.stack([picture(number, 24, 24) for number in range(12)])
    labels = np.arange(12) % 3
    given = images if kind == "uint8" else (images / 255).astype("float32")
    whole = {**PLAIN, "evaluation": training.CenterCrop(1.0)}
    data = training.arrays(given, labels, validation=(given[:3], labels[:3]), **whole)
    result, one_hot = together(data.train(0, 0))
    assert by_content(result, one_hot.argmax(axis=1)) == by_content(images.astype("float32"), labels)
    np.testing.assert_array_equal(together(data.validation)[0], images[:3].astype("float32"))
    gray = training.arrays(given[..., :1], labels, validation_fraction=0.3, **whole)
    assert gray.input_shape == (24, 24, 1) and together(gray.validation)[0].shape == (3, 24, 24, 1)


def test_tfrecords_contain_the_image_files_of_the_folder(tmp_path):
    paths = write_folder(tmp_path / "images", suffix=".jpg")
    files = training.write_tfrecords(tmp_path / "images", tmp_path / "records", shards=4, verbose=False)
    assert [file.name for file in files] == [f"train-0000{number}-of-00004" for number in range(4)]
    pattern = str(tmp_path / "records" / "train-*-of-*")
    data = training.tfrecords(pattern, pattern, **{**PLAIN, "batch_size": 3})
    assert data.class_names == ("class_0", "class_1", "class_2") and data.steps_per_epoch == 6
    expected = [(path, class_of(path)) for path in paths]
    for part in ("train", "validation"):
        assert_holds(data, expected, parts=[part])
    # Read a record with TensorFlow alone.
    example = next(iter(tf.data.TFRecordDataset(str(files[0]))))
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_single_example(example, features)
    encoded = {path.read_bytes(): class_of(path) for path in paths}
    assert encoded[parsed["image/encoded"].numpy()] == int(parsed["image/class/label"])


def test_records_are_counted_if_there_is_no_index(tmp_path):
    write_folder(tmp_path / "images")
    training.write_tfrecords(tmp_path / "images", tmp_path / "records", shards=4, verbose=False)
    (tmp_path / "records" / "train.json").unlink()
    pattern = str(tmp_path / "records" / "train-*")
    with pytest.raises(FileNotFoundError, match="names of the classes"):
        training.tfrecords(pattern, pattern, **PLAIN)
    data = training.tfrecords(pattern, pattern, class_names="abc", **PLAIN)
    assert data.steps_per_epoch == 4
    with pytest.raises(tf.errors.OpError, match=r"record . has the label 0; the 3 classes have the labels 1 to 3"):
        together(training.tfrecords(pattern, pattern, class_names="abc", first_label=1, **PLAIN).validation)
    shard = tmp_path / "records" / "train-00001-of-00004"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ValueError, match="train-00001-of-00004' is damaged"):
        training.tfrecords(pattern, pattern, class_names="abc", **PLAIN)


def test_writing_records_resumes_after_an_interruption(tmp_path, monkeypatch):
    write_folder(tmp_path / "images")
    whole = training.write_tfrecords(tmp_path / "images", tmp_path / "whole", shards=3, verbose=False)

    class Interrupted(tf.io.TFRecordWriter):
        written = 0

        def write(self, record):
            Interrupted.written += 1
            if Interrupted.written == 9:
                raise KeyboardInterrupt
            super().write(record)

    monkeypatch.setattr(tf.io, "TFRecordWriter", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.write_tfrecords(tmp_path / "images", tmp_path / "part", shards=3, verbose=False)
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == ["train-00000-of-00003", "train.json"]
    training.write_tfrecords(tmp_path / "images", tmp_path / "part", shards=3, verbose=False)
    assert Interrupted.written == 9 + 12  # The first file was not written again.
    for file in whole:
        assert (tmp_path / "part" / file.name).read_bytes() == file.read_bytes()

    with pytest.raises(FileExistsError, match="other images or other settings"):
        training.write_tfrecords(tmp_path / "images", tmp_path / "part", shards=2, verbose=False)


def test_writing_records_skips_corrupt_images(tmp_path, caplog):
    paths = write_folder(tmp_path / "images")
    paths[4].write_bytes(b"nothing")
    with caplog.at_level(logging.WARNING, "keras_vit.training"):
        files = training.write_tfrecords(tmp_path / "images", tmp_path / "records", shards=2, verbose=False)
    assert "4.png" in caplog.text
    assert sum(1 for _ in tf.data.TFRecordDataset([str(file) for file in files])) == 17
    with pytest.raises(ValueError, match=r"1 images can't be decoded, more than max_corrupt=0: class_1/4\.png"):
        training.write_tfrecords(tmp_path / "images", tmp_path / "strict", max_corrupt=0, verbose=False)


def test_tfds_images(tmp_path):
    import tensorflow_datasets as tfds

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a", "b"])}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(12)), "test": self._generate_examples(range(12, 16))}

        def _generate_examples(self, numbers):
            for number in numbers:
                yield number, {"image": picture(number), "label": number % 2}

    settings = {"data_dir": str(tmp_path), "train": "train[:8]", "validation": "train[8:]", "test": "test", **PLAIN}
    data = training.tfds_images("tiny_pictures", **settings)
    assert data.class_names == ("a", "b") and data.steps_per_epoch == 2
    assert_holds(data, [(picture(number), number % 2) for number in range(12)])
    assert_holds(data, [(picture(number), number % 2) for number in range(12, 16)], parts=["test"])
    workers = [data.train(0, 0, tf.distribute.InputContext(2, worker)) for worker in range(2)]
    images = np.concatenate([together(worker)[0] for worker in workers])
    assert sorted(map(bytes, images)) == sorted(map(bytes, together(data.train(0, 0))[0]))

    with pytest.raises(ValueError, match=r"no data set named 'tiny_picture'\. The nearest are .*tiny_pictures"):
        training.tfds_images("tiny_picture", **settings)
    with pytest.raises(ValueError, match=r"no split 'val'; it has t\w+, t\w+"):
        training.tfds_images("tiny_pictures", **{**settings, "validation": "val"})
    with pytest.raises(FileNotFoundError, match="pass download=True"):
        training.tfds_images("tiny_pictures", **{**settings, "data_dir": str(tmp_path / "none")}, download=False)


def test_missing_tensorflow_datasets_raises_with_install_instructions(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r'pip install "keras-vit\[tfds\]"'):
        training.tfds_images("mnist")


def empty(folder):
    folder.mkdir()


def one_class_empty(folder):
    write_folder(folder)
    (folder / "class_3").mkdir()


def other_classes_in_validation(folder):
    write_folder(folder / "train")
    write_folder(folder / "val", classes=4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda folder: None, NotADirectoryError, "There is no folder"),
        (empty, ValueError, "has no subfolders; it needs one per class"),
        (lambda folder: (folder / "class_0").mkdir(parents=True), ValueError, "There are no images in"),
        (one_class_empty, ValueError, "no images for 1 of 4 classes in folder .*: class_3"),
        (other_classes_in_validation, ValueError, "class_3, not among the 3 known classes: class_0, class_1, class_2"),
        (lambda folder: write_folder(folder, images=1), ValueError, "Class class_0 has a single image"),
    ],
)
def test_invalid_folders_raise(tmp_path, make, error, message):
    make(tmp_path / "data")
    with pytest.raises(error, match=message):
        training.image_folder(tmp_path / "data", **PLAIN)


@pytest.mark.parametrize(
    ("content", "settings", "error", "message"),
    [
        ("", {}, ValueError, "There are no images in"),
        ("path,label\n", {}, ValueError, "There are no images in"),
        ("class_0/0.png,a\nclass_0/3.png\n", {}, ValueError, r"list\.csv, line 2: a row must be a path and a label"),
        ("class_0/0.png,a\nclass_0/3.png,a,b\n", {}, ValueError, r"line 2: a row must be a path and a label"),
        ("class_0/0.png,a\nmissing.png,a\n", {}, FileNotFoundError, r"line 2: there is no image 'missing\.png'"),
        (
            "class_0/0.png,7\n",
            {"class_names": "ab"},
            ValueError,
            "line 1: the label 7 is not one of the 2 classes: a, b",
        ),
        (
            "class_0/0.png,c\n",
            {"class_names": "ab"},
            ValueError,
            "line 1: the label 'c' is not one of the 2 classes: a, b",
        ),
        (
            "class_0/0.png,0\nclass_0/3.png,2\n",
            {"class_names": "abc"},
            ValueError,
            "no images for 1 of 3 classes in manifest list.csv: b",
        ),
        (b"\xff\xfe\x00,a", {}, ValueError, "not a text in UTF-8, UTF-16 or Windows-1252"),
    ],
)
def test_invalid_csv_files_raise(tmp_path, content, settings, error, message):
    write_folder(tmp_path)
    (tmp_path / "list.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=message):
        training.csv_images(tmp_path / "list.csv", **settings, **PLAIN)


IMAGES = np.zeros((6, 8, 8, 3), "uint8")


@pytest.mark.parametrize(
    ("images", "labels", "settings", "message"),
    [
        (IMAGES[0], [0], {}, r"received \(8, 8, 3\)"),
        (IMAGES, [0, 1], {}, "one label for each of the 6 images; received 2"),
        (IMAGES, [0.0, 0.5] * 3, {}, "row 1: the label .*0.5.* is no class"),
        (IMAGES, [0, 1, -1] * 2, {}, "row 2: the label -1 is negative"),
        (IMAGES, [0, 1, 2] * 2, {"class_names": "ab"}, "row 2: the label .* is not one of the 2 classes: a, b"),
        (IMAGES + 300.0, [0, 1] * 3, {}, "uint8 in .* or floats in .*received float64"),
        (IMAGES, [0, 2] * 3, {"class_names": "abc"}, "no images for 1 of 3 classes in arrays: b"),
        (IMAGES, [0, 1] * 3, {"validation_fraction": 1.5}, "validation_fraction"),
        (IMAGES, [0, 1] * 3, {"batch_size": 50}, "fewer than a batch"),
        (IMAGES[..., :1], [0, 1] * 3, {"augmentation": training.Augmentation(gray=1.0)}, "statistics|colors"),
        (IMAGES, [0, 1] * 3, {"max_corrupt": -1}, "max_corrupt"),
    ],
)
def test_invalid_arrays_raise(images, labels, settings, message):
    with pytest.raises(ValueError, match=message):
        training.arrays(images, np.array(labels), **settings)
