"""Nearest neighbors, linear and attentive classifiers and partial fine-tuning, against scikit-learn and NumPy."""

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


def test_the_features_of_beit_are_those_of_its_patches():
    tiny = dict(input_shape=(8, 8, 1), patch_size=4, width=16, depth=1, num_heads=2, include_top=False)
    model = keras_vit.BEiT(**tiny)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
    mean = np.asarray(model(images))[:, 1:].mean(axis=1)
    np.testing.assert_allclose(training.features(model, "avg")(images), mean, atol=1e-6)


def test_an_attentive_classifier_attends_to_the_patches():
    backbone = encoder(num_registers=1, dropout_rate=0.5)
    model = training.attentive_classifier(backbone, 10, num_heads=2)
    for layer in model.layers:  # Values other than the initial zeros and ones.
        if layer.trainable:
            layer.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in layer.get_weights()])
    images = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype("float32")
    x = np.asarray(backbone(images, training=False))[:, 2:].astype("float64")
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    norm, query, attention, head = (model.get_layer(n) for n in ("patch_norm", "query", "attention", "head"))
    x = x * np.asarray(norm.gamma) + np.asarray(norm.beta)

    def dense(layer, inputs):
        return inputs @ np.asarray(layer.kernel, "float64") + np.asarray(layer.bias, "float64")

    q = dense(attention.query, np.asarray(query.tokens, "float64")).reshape(1, 2, 8)
    k, v = (dense(layer, x).reshape(3, 4, 2, 8) for layer in (attention.key, attention.value))
    scores = np.einsum("qhd,bphd->bhp", q, k) / np.sqrt(8)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    context = np.einsum("bhp,bphd->bhd", weights, v).reshape(3, 16)
    expected = dense(head, dense(attention.projection, context))
    np.testing.assert_allclose(model(images, training=True), expected, rtol=1e-4, atol=1e-4)
    trained = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert trained == {"patch_norm", "query", "attention", "head"}
    with pytest.raises(ValueError, match="its output has the shape"):
        training.attentive_classifier(training.features(backbone), 10)


class TestPartialFineTuning:
    def model(self, **settings):
        tiny = dict(input_shape=(8, 8, 1), patch_size=4, width=16, num_heads=2, classes=3)
        return keras_vit.ViT(**{**tiny, "depth": 3, "layer_scale": 0.1, **settings})

    def trained(self, model):
        return {"/".join(variable.path.split("/")[:2]) for variable in model.trainable_variables}

    after = {"norm/gamma", "norm/beta", "head/kernel", "head/bias"}
    halves = ({"norm1", "attention", "layer_scale1"}, {"norm2", "mlp", "layer_scale2"})

    @pytest.mark.parametrize("blocks", [0, 0.5, 1, 1.5, 3])
    def test_the_last_blocks_are_trained(self, blocks):
        model = training.train_last_blocks(self.model(), blocks)
        expected = set(self.after)
        for place in range(int(2 * blocks)):  # Halves of blocks, from the last one.
            expected |= {f"block_{2 - place // 2}/{part}" for part in self.halves[1 - place % 2]}
        assert self.trained(model) == expected

    def test_it_can_be_changed_and_saved(self, tmp_path):
        model = self.model(layer_scale=None)
        everything = self.trained(model)
        last = {f"block_2/{part}" for part in ("norm1", "attention", "norm2", "mlp")}
        for blocks, expected in ((1, last), (0.5, {"block_2/norm2", "block_2/mlp"}), (1, last), (0, set())):
            assert self.trained(training.train_last_blocks(model, blocks)) == self.after | expected
        training.train_last_blocks(model, 0.5)
        assert self.trained(model) < everything
        model.save(tmp_path / "model.keras")
        assert self.trained(keras.models.load_model(tmp_path / "model.keras")) == self.trained(model)

    @pytest.mark.parametrize("blocks", [-1, 0.25, 3.5])
    def test_other_numbers_are_refused(self, blocks):
        with pytest.raises(ValueError, match="has 3 transformer blocks, so blocks must be a multiple"):
            training.train_last_blocks(self.model(), blocks)
