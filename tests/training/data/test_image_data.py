import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_vit import training
from keras_vit.models.image_facts import UNIT


def together(dataset):
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def rows(images):
    return sorted(map(bytes, np.ascontiguousarray(images)))


@pytest.fixture(scope="module")
def plain():
    return training.digits(augment=False, batch_size=1, statistics=UNIT)


def test_digits_contain_each_scikit_learn_image_once(plain):
    source = load_digits()
    parts = [together(part) for part in (plain.train(0, 0), plain.validation, plain.test)]
    assert [len(images) for images, _ in parts] == [1257, 180, 360]
    images = np.concatenate([images for images, _ in parts])
    assert rows(images) == rows((source.images / 16).astype("float32")[..., None])
    for _, labels in parts[1:]:
        assert np.ptp(labels.sum(axis=0)) <= 3  # The classes have 174 to 183 images.

    labels_of = dict(zip(map(bytes, (source.images / 16).astype("float32")), source.target, strict=True))
    for images, labels in parts:
        assert labels.argmax(axis=1).tolist() == [labels_of[bytes(image)] for image in images[..., 0]]


def test_split_does_not_depend_on_the_seed():
    one, other = training.digits(seed=1), training.digits(seed=2)
    np.testing.assert_array_equal(one.test_images, other.test_images)
    np.testing.assert_array_equal(together(one.validation)[0], together(other.validation)[0])
    # Published accuracies were measured on this test set.
    assert one.test_labels[:12].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3, 2, 6]


def test_test_arrays_equal_the_test_dataset():
    data = training.digits(batch_size=64)
    images, labels = together(data.test)
    np.testing.assert_array_equal(images, data.test_images)
    np.testing.assert_array_equal(labels.argmax(axis=1), data.test_labels)


def test_batches_depend_only_on_seed_and_epoch():
    data, again = training.digits(seed=3), training.digits(seed=3)
    images, labels = together(data.train(5, 0))
    assert images.shape == (19 * 64, 8, 8, 1) and labels.shape == (19 * 64, 10)
    assert data.steps_per_epoch == 19 and data.train(5, 0).element_spec[0].shape == (64, 8, 8, 1)
    np.testing.assert_array_equal(images, together(again.train(5, 0))[0])
    assert not np.array_equal(labels, together(data.train(6, 0))[1])
    assert not np.array_equal(labels, together(training.digits(seed=4).train(5, 0))[1])


def test_training_can_start_in_the_middle_of_an_epoch():
    data = training.digits()
    images, labels = together(data.train(2, 0))
    late_images, late_labels = together(data.train(2, 7))
    np.testing.assert_array_equal(late_images, images[7 * 64 :])
    np.testing.assert_array_equal(late_labels, labels[7 * 64 :])


def test_augmentation_changes_the_images_but_not_the_order():
    augmented, plain = (training.digits(seed=3, augment=augment, statistics=UNIT) for augment in (True, False))
    images, labels = together(augmented.train(0, 0))
    plain_images, plain_labels = together(plain.train(0, 0))
    np.testing.assert_array_equal(labels, plain_labels)
    assert (np.abs(images - plain_images).max(axis=(1, 2, 3)) > 0).all()
    assert images.min() >= 0 and images.max() <= 1
    assert not np.array_equal(rows(images), rows(together(augmented.train(1, 0))[0]))


def test_images_are_enlarged_by_bilinear_interpolation():
    small, large = training.digits().test_images, training.digits(image_size=24).test_images
    at = (np.arange(24) + 0.5) / 3 - 0.5
    wide = np.apply_along_axis(lambda row: np.interp(at, np.arange(8), row), 2, small)
    expected = np.apply_along_axis(lambda column: np.interp(at, np.arange(8), column), 1, wide)
    np.testing.assert_allclose(large, expected, atol=1e-4)


def test_missing_scikit_learn_raises_with_install_instructions(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "keras-vit\[train\]"'):
        training.digits()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 28}, "multiple of 8.*28"),
        ({"batch_size": 0}, "1257.*0"),
        ({"batch_size": 2000}, "2000"),
    ],
)
def test_digits_arguments_out_of_range_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.digits(**arguments)
