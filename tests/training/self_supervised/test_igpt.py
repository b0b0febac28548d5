"""Training an iGPT: its loss, its colors, and a run."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import training

TINY = dict(include_top=False, predict_colors=True, input_shape=(8, 8, 1), num_colors=4, width=16, depth=1, num_heads=2)


def test_the_loss_is_the_mean_cross_entropy_of_the_pixels():
    keras.utils.set_random_seed(0)
    model = keras_vit.iGPT(**TINY)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 1)).astype("float32")
    logits = np.asarray(model(images), "float64")
    centers = np.asarray(model.get_layer("colors").centers)
    colors = np.abs(images.reshape(2, 64, 1) - centers[:, 0]).argmin(axis=-1)
    likelihoods = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(likelihoods, colors[..., None], axis=-1).mean(axis=1)
    np.testing.assert_allclose(keras_vit.next_color_model(model)(images), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="must predict colors"):
        keras_vit.next_color_model(keras_vit.iGPT(**{**TINY, "predict_colors": False}))


def test_the_colors_are_the_centers_of_clusters():
    random, centers = np.random.default_rng(0), np.array([[-0.5, 0.5], [0.5, 0.5], [0.0, -0.8]])
    pixels = centers[random.integers(0, 3, (10, 6, 5))] + random.normal(scale=0.02, size=(10, 6, 5, 2))
    found = training.color_centers(pixels, 3)
    distances = np.linalg.norm(found[:, None] - centers, axis=-1)
    assert sorted(distances.argmin(axis=1)) == [0, 1, 2] and distances.min(axis=1).max() < 0.02
    with pytest.raises(ValueError, match="There are 4 pixels, fewer than num_colors=5"):
        training.color_centers(np.zeros((1, 2, 2, 3)), 5)


def test_a_run(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras_vit.iGPT(**TINY)
    data = dataclasses.replace(training.digits(), steps_per_epoch=10)
    settings = dict(epochs=2, learning_rate=1e-2, verbose=0, run_dir=tmp_path / "run")
    before = np.array(model.get_layer("colors").centers)
    result = training.pretrain(model, data, training.IGPT(color_images=64), **settings)
    assert result.history[-1]["val_loss"] < np.log(4)  # That of a model that knows nothing.
    saved = keras.models.load_model(result.encoder)
    assert saved.output_shape == (None, 64, 4)
    centers = np.asarray(saved.get_layer("colors").centers)
    assert np.abs(centers - before).max() > 0.01
    assert centers.min() >= -1.01 and centers.max() <= 1.01 and np.ptp(centers) > 1
