import pytest

from keras_vit import training
from tests.training.pictures import write_folder


def test_open_data_opens_each_kind_of_source(tmp_path):
    write_folder(tmp_path / "pets", classes=2)
    pipeline = {"image_size": 16, "batch_size": 2, "validation_fraction": 0.5}
    folder = training.open_data(str(tmp_path / "pets"), **pipeline)
    assert folder.class_names == ("class_0", "class_1") and folder.input_shape == (16, 16, 3)

    rows = [f"pets/{path.parent.name}/{path.name},{path.parent.name}" for path in (tmp_path / "pets").glob("*/*")]
    (tmp_path / "pets.csv").write_text("\n".join(rows))
    listed = training.open_data(str(tmp_path / "pets.csv"), **pipeline)
    assert listed.class_names == ("class_0", "class_1") and listed.steps_per_epoch == folder.steps_per_epoch

    for part in ("train", "validation"):
        training.write_tfrecords(tmp_path / "pets", tmp_path / "records", name=part, shards=2, verbose=False)
    records = training.open_data(f"tfrecords:{tmp_path / 'records'}", image_size=16, batch_size=2)
    assert records.class_names == ("class_0", "class_1") and records.steps_per_epoch == 6

    digits = training.open_data("digits", image_size=16, batch_size=100, augmentation=None)
    assert digits.input_shape == (16, 16, 1) and digits.settings["augment"] is False


def test_unknown_source_raises(tmp_path):
    with pytest.raises(ValueError, match=r"tfds:NAME.*there is no folder 'cifar'"):
        training.open_data("cifar")
    with pytest.raises(FileNotFoundError, match="No file matches"):
        training.open_data(f"tfrecords:{tmp_path}")
