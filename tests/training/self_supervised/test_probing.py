"""Nearest neighbors and linear classifiers, against scikit-learn and NumPy."""

import keras
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import keras_vit
from keras_vit import training
from keras_vit.training.self_supervised.probing import nearest_classes


def encoder(**settings):
    keras.utils.set_random_seed(0)
    tiny = dict(input_shape=(8, 8, 1), patch_size=4, width=16, depth=1, num_heads=2, include_top=False)
    return keras_vit.ViT(**{**tiny, **settings})


def test_nearest_neighbors_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    centers = random.normal(size=(4, 6))
    classes = random.integers(0, 4, 200)
    points = centers[classes] + 1.5 * random.normal(size=(200, 6))
    queries = centers[random.integers(0, 4, 50)] + 1.5 * random.normal(size=(50, 6))
    votes = dict(metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / 0.07))
    expected = KNeighborsClassifier(20, **votes).fit(points, classes).predict(queries)
    found = nearest_classes(points, np.eye(4)[classes], queries, neighbors=20, temperature=0.07)
    np.testing.assert_array_equal(found, expected)
    assert len(set(expected)) == 4


def test_features_are_pooled_tokens():
    model = encoder(num_registers=2)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    tokens = np.asarray(model(images))
    mean = tokens[:, 3:].mean(axis=1)
    np.testing.assert_allclose(training.features(model)(images), tokens[:, 0], atol=1e-6)
    np.testing.assert_allclose(training.features(model, "avg")(images), mean, atol=1e-6)
    both = training.features(model, "token_and_avg")(images)
    np.testing.assert_allclose(both, np.concatenate([tokens[:, 0], mean], axis=1), atol=1e-6)
    with pytest.raises(ValueError, match="'token', 'avg' or 'token_and_avg'; received 'max'"):
        training.features(model, "max")


def test_accuracy_on_the_digits():
    """Raw pixels, as an encoder without weights, classify nearly all digits."""
    images = keras.Input((8, 8, 1))
    pixels = keras.Model(images, keras.layers.Flatten()(images))
    data = training.digits(augment=False)
    assert training.knn_accuracy(pixels, data) > 0.95
    with pytest.raises(ValueError, match="neighbors=2000"):
        training.knn_accuracy(pixels, data, neighbors=2000)


def test_a_linear_classifier_trains_only_its_last_layer(tmp_path):
    backbone = encoder(dropout_rate=0.5)
    model = training.linear_classifier(backbone, 10, "token_and_avg")
    assert [variable.path.split("/")[-1] for variable in model.trainable_variables] == ["kernel", "bias"]
    before = backbone.get_weights()
    result = training.fit(
        model,
        training.digits(),
        run_dir=tmp_path / "run",
        epochs=4,
        optimizer="lars",
        learning_rate=20.0,
        weight_decay=0.0,
        clip_norm=None,
        label_smoothing=0.0,
        verbose=0,
    )
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert result.history[-1]["val_accuracy"] > 0.15  # Chance is 0.1.
    # The features are those without dropout in training too.
    vectors = keras.Model(model.input, model.get_layer("feature_norm").input)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    expected = training.features(backbone, "token_and_avg")(images, training=False)
    np.testing.assert_allclose(vectors(images, training=True), expected, atol=1e-6)
