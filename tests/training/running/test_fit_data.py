"""`fit` with the data, losses and callbacks that Keras' own `fit` takes."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_vit
from keras_vit import training

RNG = np.random.default_rng(0)
LABELS = np.arange(24) % 3
# Each class has a bright channel of its own.
IMAGES = (RNG.normal(size=(24, 8, 8, 3)) * 0.2 + np.eye(3)[LABELS][:, None, None, :]).astype("float32")
WORDS = ("apple", "Lime", "sea")


def classifier(classes=3, activation="softmax"):
    image = keras.Input((8, 8, 3))
    x = keras_vit.layers.Preprocessing(0.0, 1.0, name="preprocessing")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, activation=activation, name="head")(x))


def fitted(folder, model, data, **settings):
    settings = {"epochs": 3, "learning_rate": 0.2, "weight_decay": 0.0, "verbose": 0, **settings}
    return training.fit(model, data, run_dir=folder / f"run_{len(list(folder.iterdir()))}", **settings)


def accuracy(model):
    return float(np.mean(model.predict(IMAGES, verbose=0).argmax(axis=1) == LABELS))


class Batches(keras.utils.PyDataset):
    ended = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return IMAGES[6 * index : 6 * index + 6], LABELS[6 * index : 6 * index + 6]

    def on_epoch_end(self):
        Batches.ended += 1


def dataset(labels=LABELS, batch_size=6):
    return tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(batch_size)


def generated():
    """Return a dataset whose number of batches is not known."""
    spec = (tf.TensorSpec((6, 8, 8, 3), tf.float32), tf.TensorSpec((6,), tf.int64))
    return tf.data.Dataset.from_generator(lambda: (Batches()[i] for i in range(4)), output_signature=spec)


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (dataset(), {}),
        (dataset(LABELS[:, None]), {}),
        (dataset(np.eye(3)[LABELS]), {}),
        (dataset(LABELS.astype("float32"), batch_size=5), {}),
        ((IMAGES, LABELS), {"batch_size": 6}),
        ([IMAGES, LABELS + 1], {"batch_size": 6}),
        ((IMAGES, list(LABELS)), {"batch_size": 6}),
        ((IMAGES, np.array(WORDS)[LABELS]), {"batch_size": 6, "class_names": WORDS}),
        ((IMAGES, LABELS, np.ones(24, "float32")), {"batch_size": 6}),
        (Batches(), {}),
        (generated(), {"steps_per_epoch": 4}),
        (dataset().repeat(), {"steps_per_epoch": 4}),
    ],
)
def test_data_that_keras_fit_takes(tmp_path, data, settings):
    model = classifier()
    result = fitted(tmp_path, model, data, validation_data=(IMAGES, LABELS), **settings)
    assert accuracy(model) == 1.0 == result.history[-1]["val_accuracy"]


def test_a_py_dataset_is_told_when_an_epoch_ends(tmp_path):
    Batches.ended = 0
    fitted(tmp_path, classifier(), Batches(), epochs=2)
    assert Batches.ended >= 2


def test_epochs_of_given_length_continue_where_the_one_before_ended(tmp_path):
    marked, read = IMAGES.copy(), []
    marked[:, 0, 0, 0] = np.arange(24) / 24

    def recorded(images, labels):
        images = tf.py_function(lambda x: read.append(round(24 * float(x[0, 0, 0, 0]))) or x, [images], tf.float32)
        return tf.ensure_shape(images, (6, 8, 8, 3)), labels

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    data = tf.data.Dataset.from_tensor_slices((marked, LABELS)).batch(6).repeat().map(recorded).with_options(options)
    fitted(tmp_path, classifier(), data, steps_per_epoch=3, epochs=3)
    assert read == [0, 0, 6, 12, 18, 0, 6, 12, 18, 0]  # The first one tells the size of a batch.


def test_the_classes_of_image_dataset_from_directory(tmp_path):
    for place, name in enumerate(("dog", "cat", "elk")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(4):
            color = np.zeros((8, 8, 3), "uint8")
            color[..., place] = 255 - index
            Image.fromarray(color).save(tmp_path / "pets" / name / f"{index}.png")
    model = keras_vit.ViT(
        classes=3, input_shape=(8, 8, 3), patch_size=8, width=8, depth=1, num_heads=1, include_preprocessing=True
    )
    for mode in ("int", "categorical"):
        data = keras.utils.image_dataset_from_directory(
            tmp_path / "pets", label_mode=mode, image_size=(8, 8), batch_size=4, verbose=False
        )
        saved = keras.models.load_model(fitted(tmp_path, model, data, learning_rate=0.01).best_model)
        assert keras_vit.class_names(model) == keras_vit.class_names(saved) == ("cat", "dog", "elk")


def test_a_trained_model_learns_on_by_name(tmp_path):
    """The same classes in another order are the same classes."""
    model = classifier()
    fitted(tmp_path, model, (IMAGES, LABELS), class_names=WORDS, batch_size=6)
    other = 2 - LABELS  # The same labels with the names in reverse.
    result = fitted(tmp_path, model, dataset(other), class_names=WORDS[::-1], epochs=1, learning_rate=1e-9)
    assert result.history[0]["accuracy"] == 1.0 and keras_vit.class_names(model) == WORDS
    assert training.evaluate(model, dataset(other), WORDS[::-1]).top1 == 1.0
    assert training.evaluate(model, (IMAGES, LABELS)).top1 == 1.0
    assert json.loads((result.run_dir / "run.json").read_text())["class_names"] == list(WORDS)


def test_classes_that_are_called_by_numbers_are_numbered_alike_in_fit_and_evaluate(tmp_path):
    """A folder of classes 1, 2 and 10 has them in the order of their names, so a name is not a place."""
    names = ("1", "10", "2")
    named = np.array([1, 10, 2])[LABELS]
    model = classifier()
    fitted(tmp_path, model, (IMAGES, named), class_names=names, batch_size=6)
    assert accuracy(model) == 1.0 and keras_vit.class_names(model) == names
    some = LABELS != 1  # Their labels, 1 and 2, could be places too.
    for labels in (named, named.astype(str), named[:, None], np.eye(3)[LABELS]):
        assert training.evaluate(model, (IMAGES, labels)).top1 == 1.0
        assert training.evaluate(model, (IMAGES[some], labels[some])).top1 == 1.0
    assert training.evaluate(model, dataset()).top1 == 1.0  # The labels of a dataset of batches are places.
    for attempt in (training.evaluate, lambda *given: fitted(tmp_path, *given)):
        with pytest.raises(ValueError, match="row 0: the label 0 is not one of the 3 classes: 1, 10, 2"):
            attempt(model, (IMAGES, LABELS))


@pytest.mark.parametrize(
    ("data", "settings", "error", "message"),
    [
        (IMAGES, {}, TypeError, r"received ndarray\. Pass images and labels as a pair"),
        (iter([]), {}, TypeError, "can't be started again; wrap it with tf.data.Dataset.from_generator"),
        ("pets", {}, TypeError, r"Open a folder or file with training\.open_data"),
        (dataset().map(lambda x, y: x), {}, ValueError, r"must be batches \(images, labels\); received TensorSpec"),
        (generated(), {}, ValueError, "number of batches of data is not known, .*steps_per_epoch="),
        (dataset().repeat(), {}, ValueError, "or it is endless or empty"),
        (dataset(LABELS + 1), {}, ValueError, r"class numbers from 0 to 2; .* \[1 2 3 1 2 3\]\. Subtract 1"),
        (dataset(LABELS - 1), {}, ValueError, r"class numbers from 0 to 2; .* \[-1 0 1 -1 0 1\]"),
        (dataset(LABELS + 0.5), {}, ValueError, r"class numbers from 0 to 2; .* \[0\.5 1\.5"),
        (dataset(np.r_[LABELS[:12], LABELS[:12] + 7]), {}, ValueError, r"class numbers from 0 to 2; .* \[7 8 9"),
        (
            dataset(np.array(WORDS)[LABELS]),
            {},
            ValueError,
            r"Labels must be numbers; .* training\.arrays takes strings",
        ),
        (dataset(np.zeros((24, 5))), {}, ValueError, r"\(batch, 3\); received \(None, 5\)\. .* pass loss="),
        ((IMAGES, LABELS * 5), {}, ValueError, "row 1: the label 5 is not one of the 3 classes"),
        ((IMAGES, LABELS[:-1]), {}, ValueError, "one label for each image"),
        (dataset(), {"class_weight": {"pear": 2.0}}, ValueError, "classes 0, 1, 2; received 'pear': 2.0"),
        (training.arrays(IMAGES.clip(0, 1), LABELS, batch_size=4), {"batch_size": 3}, ValueError, "its own batch_size"),
    ],
)
def test_other_data_is_refused_with_what_would_do(tmp_path, data, settings, error, message):
    with pytest.raises(error, match=message):
        fitted(tmp_path, classifier(), data, **settings)


def test_class_weights_multiply_the_loss(tmp_path):
    """The loss of one step, computed by hand."""
    model = classifier()
    scores = model.predict(IMAGES, verbose=0)
    weight = np.array([1.0, 5.0, 0.5])[LABELS]
    expected = np.mean(-np.log(scores[np.arange(24), LABELS]) * weight)
    for given in ({1: 5.0, 2: 0.5}, {"Lime": 5, "sea": 0.5}):
        again = keras.models.clone_model(model)
        again.set_weights(model.get_weights())
        settings = {"epochs": 1, "batch_size": 24, "class_weight": given, "class_names": WORDS, "label_smoothing": 0.0}
        result = fitted(tmp_path, again, (IMAGES, LABELS), **settings)
        assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def head_of(*outputs):
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    made = {name: keras.layers.Dense(units, activation, name=name)(x) for name, units, activation in outputs}
    return keras.Model(image, next(iter(made.values())) if len(made) == 1 else made)


TARGETS = IMAGES.mean(axis=(1, 2))


def compiled(model, loss, **settings):
    model.compile(loss=loss, **settings)
    return model


@pytest.mark.parametrize(
    ("model", "labels", "settings", "logged"),
    [
        (lambda: compiled(head_of(("y", 1, None)), "mse", metrics=["mae"]), TARGETS[:, 0], {}, "mae"),
        (lambda: head_of(("y", 3, None)), TARGETS, {"loss": keras.losses.Huber(), "metrics": ["mae"]}, "mae"),
        (lambda: head_of(("y", 1, "sigmoid")), LABELS == 1, {"loss": "binary_crossentropy"}, "loss"),
        (
            lambda: compiled(
                head_of(("y", 3, "sigmoid")), keras.losses.BinaryCrossentropy(), metrics=["binary_accuracy"]
            ),
            np.eye(3)[LABELS] + np.eye(3)[(LABELS + 1) % 3],
            {},
            "binary_accuracy",
        ),
        (
            lambda: compiled(
                head_of(("a", 1, None), ("b", 3, None)), {"a": "mse", "b": "mae"}, loss_weights={"a": 2, "b": 1}
            ),
            {"a": TARGETS[:, :1], "b": TARGETS},
            {},
            "b_loss",
        ),
    ],
)
def test_a_model_with_its_own_loss(tmp_path, model, labels, settings, logged):
    data = tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(6)
    result = fitted(tmp_path, model(), data, validation_data=data, epochs=6, learning_rate=0.05, **settings)
    losses = [row["val_loss"] for row in result.history]
    assert losses[-1] < losses[0] and f"val_{logged}" in result.history[0]
    best = keras.models.load_model(result.best_model)
    assert best.evaluate(data, verbose=0, return_dict=True)["loss"] == pytest.approx(min(losses), rel=1e-4)


def test_a_compiled_classifier_is_trained_with_the_hyperparameters(tmp_path):
    model = compiled(classifier(), "sparse_categorical_crossentropy")
    fitted(tmp_path, model, dataset(), label_smoothing=0.2)
    assert isinstance(model.loss, keras.losses.CategoricalCrossentropy) and model.loss.label_smoothing == 0.2


def test_a_model_without_a_score_for_each_class_needs_a_loss(tmp_path):
    with pytest.raises(ValueError, match=r"returns a single number for each image.*loss='binary_crossentropy'"):
        fitted(tmp_path, head_of(("y", 1, "sigmoid")), dataset())
    with pytest.raises(ValueError, match="its own loss can't learn from a teacher; the loss is 'mse'"):
        fitted(tmp_path, head_of(("y", 1, None)), dataset(), loss="mse", teacher=classifier())


def test_callbacks_that_set_the_learning_rate(tmp_path):
    settings = {"callbacks": [keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=100)]}
    result = fitted(tmp_path, classifier(), dataset(), schedule="constant", epochs=4, **settings)
    assert [row["learning_rate"] for row in result.history] == pytest.approx([0.2, 0.2, 0.1, 0.05])
    for given, described in (
        ({}, "'cosine'"),
        ({"schedule": "constant", "warmup_steps": 1}, "'constant' with a warm-up"),
    ):
        message = rf"ReduceLROnPlateau can't change .* schedule {described}\. Pass schedule='constant' and no warm-up"
        with pytest.raises(ValueError, match=message):
            fitted(tmp_path, classifier(), dataset(), **given, **settings)


def test_a_frozen_model_trains_the_part_that_is_trainable_again(tmp_path):
    model = keras_vit.ViT(classes=3, input_shape=(8, 8, 3), patch_size=4, width=8, depth=1, num_heads=1)
    model.trainable = False
    with pytest.raises(ValueError, match=r"Nothing in vit is trainable: .* trainable = True"):
        fitted(tmp_path, model, dataset())
    model.get_layer("head").trainable = True
    before = {variable.path: np.array(variable) for variable in model.weights}
    fitted(tmp_path, model, dataset())
    changed = {
        path for path, old in before.items() if not np.array_equal(old, {v.path: v for v in model.weights}[path])
    }
    assert changed == {"head/kernel", "head/bias"}


def test_a_frozen_backbone_under_a_new_head(tmp_path):
    settings = {"include_top": False, "pooling": "avg", "input_shape": (8, 8, 3)}
    backbone = keras_vit.ViT(patch_size=4, width=8, depth=1, num_heads=1, **settings)
    backbone.trainable = False
    model = keras.Sequential([backbone, keras.layers.Dense(3, activation="softmax")])
    model.build((None, 8, 8, 3))
    before = backbone.get_weights()
    best = fitted(tmp_path, model, dataset(), class_names=WORDS).best_model
    assert all(map(np.array_equal, before, backbone.get_weights()))
    loaded = keras.models.load_model(best)
    assert keras_vit.class_names(loaded) == WORDS
    # The state of the optimizer fits, which Keras would otherwise only warn about.
    assert [v.name for v in loaded.trainable_variables] == [v.name for v in model.trainable_variables]
    states = zip(loaded.optimizer.variables, model.optimizer.variables, strict=True)
    assert all(ours.shape == theirs.shape for ours, theirs in states)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        (
            {"warmup_epochs": 5},
            "warmup_epochs=5 and epochs=3, with 4 steps per epoch. Lower warmup_epochs or raise epochs.",
        ),
        ({"warmup_steps": 12}, "warmup_steps=12 and epochs=3"),
        ({"warmup_epochs": 2, "epochs": None, "steps": 6}, "Lower warmup_epochs or raise steps"),
    ],
)
def test_a_warm_up_longer_than_the_training_names_the_field(tmp_path, settings, fields):
    with pytest.raises(ValueError, match=re.escape(fields)):
        fitted(tmp_path, classifier(), dataset(), **settings)


def test_numpy_integers_are_integers(tmp_path):
    number = np.int64
    data = training.arrays(IMAGES.clip(0, 1), LABELS, batch_size=number(6), image_size=number(8), seed=number(0))
    model = keras_vit.ViT(
        classes=LABELS.max() + 1,
        input_shape=tuple(np.array([8, 8, 3])),
        patch_size=np.int32(4),
        width=number(8),
        depth=number(1),
        num_heads=number(1),
    )
    settings = {"epochs": number(1), "warmup_steps": number(1), "seed": number(3), "checkpoint_steps": number(5)}
    result = fitted(tmp_path, model, data, weight_decay=np.float32(0.1), **settings)
    assert json.loads((result.run_dir / "run.json").read_text())["settings"]["epochs"] == 1
    assert keras_vit.new_head(model, number(5)).output_shape == (None, 5)
    assert keras_vit.resize_model(model, tuple(np.array([16, 16, 3]))).input_shape == (None, 16, 16, 3)
    assert len(keras_vit.feature_extractor(model, number(0)).outputs) == 1


@pytest.mark.parametrize("size", [(16, 24), "16", 16.5])
def test_an_image_size_that_is_not_one_number_is_refused_by_name(size):
    with pytest.raises(ValueError, match=rf"image_size must be one number of pixels.*received {re.escape(repr(size))}"):
        training.arrays(IMAGES.clip(0, 1), LABELS, image_size=size)


def test_an_image_size_of_two_equal_numbers_is_one():
    assert training.arrays(IMAGES.clip(0, 1), LABELS, image_size=(8, 8), batch_size=4).input_shape == (8, 8, 3)
