import csv
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import training

NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")
RANDOM = np.random.default_rng(0)
# The model returns its images as scores, so these numbers determine all results.
SCORES = RANDOM.normal(size=(50, 7)).astype("float32")
LABELS = RANDOM.choice([0, 1, 2, 4, 5, 6], size=50)  # There is no image of a dog.


def echo(outputs=1, activation=None):
    image = keras.Input((1, 1, 7))
    scores = keras.layers.Flatten()(image)
    if activation:
        scores = keras.layers.Activation(activation)(scores)
    # The second output reverses the order of the scores in the mean of both.
    return keras.Model(image, [scores, keras.layers.Rescaling(-3.0)(scores)] if outputs == 2 else scores)


def batches(labels=LABELS, scores=SCORES, size=16):
    return tf.data.Dataset.from_tensor_slices((scores[:, None, None], labels)).batch(size)


def counted(scores=SCORES, labels=LABELS):
    """Count the confusions and the top-5 hits image by image."""
    confusion = np.zeros((7, 7), int)
    hits = 0
    for row, label in zip(scores, labels, strict=True):
        confusion[label, max(range(7), key=row.__getitem__)] += 1
        hits += sum(score > row[label] for score in row) < 5
    return confusion, hits


def test_results_match_a_count_image_by_image():
    result = training.evaluate(echo(), batches(), NAMES)
    confusion, hits = counted()
    np.testing.assert_array_equal(result.confusion, confusion)
    assert result.images == 50 and 0.3 < result.top5 == hits / 50 < 1
    assert result.top1 == pytest.approx(sum(confusion[i, i] for i in range(7)) / 50)
    bee, dog = result.per_class[1], result.per_class[3]
    assert bee == ("bee", confusion[1].sum(), pytest.approx(confusion[1, 1] / confusion[1].sum()))
    assert dog == ("dog", 0, None)
    assert "dog" in str(result) and "nan" not in str(result).lower()


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:, None].astype("int32"),
        LABELS.astype("float32"),
        np.eye(7, dtype="float32")[LABELS],
        0.7 * np.eye(7, dtype="float32")[LABELS] + 0.3 * np.eye(7, dtype="float32")[LABELS[::-1]],
    ],
    ids=["column", "float", "one-hot", "mixed"],
)
def test_every_kind_of_label_gives_the_same_result(labels):
    np.testing.assert_array_equal(training.evaluate(echo(), batches(labels), NAMES).confusion, counted()[0])


def test_probabilities_and_two_outputs_are_supported():
    softmax = training.evaluate(echo(activation="softmax"), batches(), NAMES)
    np.testing.assert_array_equal(softmax.confusion, counted()[0])
    mean = training.evaluate(echo(outputs=2), batches(), NAMES)
    np.testing.assert_array_equal(mean.confusion, counted(-SCORES)[0])
    assert mean.top5_images == counted(-SCORES)[1] != softmax.top5_images


def test_accuracies_match_keras():
    model = echo(activation="softmax")
    model.compile(
        loss="sparse_categorical_crossentropy", metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(5)]
    )
    _, top1, top5 = model.evaluate(batches(), verbose=0)
    result = training.evaluate(model, batches(), NAMES)
    assert (result.top1, result.top5) == (pytest.approx(top1), pytest.approx(top5))


def test_saved_files_contain_the_results(tmp_path):
    result = training.evaluate(echo(), batches(), NAMES)
    folder = result.save(tmp_path / "new" / "folder")
    read = json.loads((folder / "evaluation.json").read_text())
    assert read == result.to_dict() and read["top1"] == result.top1
    confusion = np.zeros((7, 7), int)
    for true, predicted, images in read["confusion"]:
        confusion[true, predicted] = images
    np.testing.assert_array_equal(confusion, result.confusion)
    with open(folder / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(NAMES) and rows[3] == {"name": "dog", "images": "0", "accuracy": ""}
    assert float(rows[1]["accuracy"]) == result.per_class[1].accuracy
    assert sorted(path.name for path in folder.iterdir()) == ["confusion.png", "evaluation.json", "per_class.csv"]


@pytest.mark.parametrize(
    "dataset, names, error, message",
    [
        (SCORES, NAMES, TypeError, "received ndarray"),
        (tf.data.Dataset.from_tensor_slices(SCORES[:, None, None]).batch(4), NAMES, TypeError, r"\(images, labels\)"),
        (batches().repeat(), NAMES, ValueError, "is infinite"),
        (batches().take(0), NAMES, ValueError, "no images"),
        (batches(), NAMES[:6], ValueError, "6 class names"),
        (batches(scores=SCORES[:, :5]), NAMES, ValueError, r"takes \(None, 1, 1, 7\).*images \(None, 1, 1, 5\)"),
        (batches(LABELS + 1), NAMES, ValueError, "0 to 6; received the label 7"),
        (batches(LABELS + 0.5), NAMES, ValueError, "received the label"),
        (batches(np.eye(6)[LABELS % 6]), NAMES, ValueError, r"one-hot; received \(16, 6\)"),
        (batches(np.zeros((50, 7))), NAMES, ValueError, "has no class"),
        (batches(scores=SCORES * np.inf), NAMES, ValueError, "NaN or infinite"),
    ],
)
def test_invalid_arguments_are_rejected(dataset, names, error, message):
    with pytest.raises(error, match=message):
        training.evaluate(echo(), dataset, names)
