"""The Hessian's eigenvalues against NumPy's, and the loss around the weights."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import training
from keras_vit.cli.main import main
from keras_vit.training.evaluation.landscape import LossSurface, surface_figure


@pytest.fixture(scope="module")
def small():
    """A model of 51 weights, batches, and the Hessian of its loss by automatic differentiation, in float64."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(3, "softmax")])
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 4)).astype("float32"), np.eye(3, dtype="float32")[random.integers(0, 3, 20)]
    weights = [tf.Variable(np.asarray(v, "float64")) for v in model.get_weights()]
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            kernel1, bias1, kernel2, bias2 = weights
            logits = tf.tanh(x.astype("float64") @ kernel1 + bias1) @ kernel2 + bias2
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y.astype("float64"), logits))
        flat = tf.concat([tf.reshape(g, [-1]) for g in inner.gradient(loss, weights)], axis=0)
    parts = outer.jacobian(flat, weights)
    hessian = np.concatenate([part.numpy().reshape(flat.shape[0], -1) for part in parts], axis=1)
    return model, [(x[:10], y[:10]), (x[10:], y[10:])], hessian, float(loss)


def test_the_largest_eigenvalue_is_numpys(small):
    model, batches, hessian, loss = small
    found = training.landscape(model, batches, layers=True)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.eigenvalue == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-3)
    parts = [hessian[:30, :30], hessian[30:, 30:]]
    expected = [np.linalg.eigvalsh(part)[-1] for part in parts]
    np.testing.assert_allclose(list(found.layer_eigenvalues.values()), expected, rtol=1e-3)
    assert "largest eigenvalue of the Hessian" in str(found) and found.to_dict()["loss"] == found.loss


def test_products_with_the_hessian(small):
    model, batches, hessian, _ = small
    surface = LossSurface(model, batches, keras.losses.CategoricalCrossentropy())
    vector = np.random.default_rng(3).normal(size=51)
    ends = np.cumsum([0, *(v.size for v in model.get_weights())])
    direction = [vector[a:b].reshape(v.shape) for a, b, v in zip(ends[:-1], ends[1:], model.get_weights(), strict=True)]
    product = np.concatenate([part.ravel() for part in surface.hessian_product(direction)])
    np.testing.assert_allclose(product, hessian @ vector, atol=1e-5)


def test_the_weights_do_not_change_and_the_middle_of_the_surface_is_the_loss(small):
    model, batches, _, loss = small
    before = model.get_weights()
    surface = LossSurface(model, batches, keras.losses.CategoricalCrossentropy())
    places, losses = surface.grid(radius=0.5, steps=3)
    assert losses[1, 1] == pytest.approx(loss, rel=1e-5) and len(np.unique(losses)) == 9
    assert surface.average_loss(0.0) == pytest.approx(loss, rel=1e-5)
    assert surface.average_loss(1.0) > loss
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(surface_figure(places, losses, "small").axes) == 2


def test_directions_have_the_norm_of_each_unit(small):
    model, batches, _, _ = small
    surface = LossSurface(model, batches, keras.losses.CategoricalCrossentropy())
    for direction in surface.filter_normalized_directions():
        for part, weights in zip(direction, model.get_weights(), strict=True):
            if weights.ndim == 1:
                assert not part.any()
            else:
                np.testing.assert_allclose(np.linalg.norm(part, axis=0), np.linalg.norm(weights, axis=0), rtol=1e-4)


def test_a_vision_transformer():
    keras.utils.set_random_seed(0)
    model = keras_vit.ViT(classes=3, input_shape=(8, 8, 1), patch_size=4, width=8, depth=1, num_heads=1)
    random = np.random.default_rng(0)
    batch = random.normal(size=(6, 8, 8, 1)).astype("float32"), np.eye(3, dtype="float32")[random.integers(0, 3, 6)]
    found = training.landscape(model, [batch], layers=True, samples=2)
    assert found.eigenvalue >= max(found.layer_eigenvalues.values()) * (1 - 1e-3) > 0
    assert {"patch_embedding", "block_0", "head"} <= set(found.layer_eigenvalues)


def test_the_command_compares_runs(tmp_path, capsys):
    paths = []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        model = keras_vit.ViT(classes=10, input_shape=(8, 8, 1), patch_size=4, width=8, depth=1, num_heads=1)
        paths.append(str(tmp_path / f"model_{seed}.keras"))
        model.save(paths[-1])
    pictures = tmp_path / "pictures"
    assert main(["landscape", *paths, "--images", "64", "--json", "--picture", str(pictures)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == paths and all(found[path]["eigenvalue"] > 0 for path in paths)
    assert sorted(path.name for path in pictures.iterdir()) == ["landscape_1.png", "landscape_2.png"]
