import keras
import numpy as np
import pytest

from keras_vit import training
from keras_vit.training.running.callbacks import BestModel


def fitted(tmp_path, **settings):
    random = np.random.default_rng(0)
    images, labels = (
        random.normal(size=(64, 6)).astype("float32"),
        np.eye(3, dtype="float32")[random.integers(3, size=64)],
    )
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(
        training.optimizer("adamw", model, 0.05, **settings), "categorical_crossentropy", metrics=["accuracy"]
    )
    best = BestModel(tmp_path / "best.keras")
    history = model.fit(
        images,
        labels,
        batch_size=8,
        epochs=1,
        verbose=0,
        validation_data=(images, labels),
        callbacks=[training.EvaluateAverage(), best],
    )
    return model, (images, labels), history.history["val_loss"][-1], best


def loss(model, data):
    return model.evaluate(*data, verbose=0, return_dict=True)["loss"]


def test_validation_and_the_best_model_use_the_average(tmp_path):
    model, data, measured, best = fitted(tmp_path, ema_decay=0.9)
    weights = model.get_weights()
    with training.averaged_weights(model):
        assert loss(model, data) == pytest.approx(measured, rel=1e-6)
        averaged = model.get_weights()
        for received, right in zip(averaged, model.optimizer.averages, strict=True):
            np.testing.assert_array_equal(received, right)
    # The weights are restored exactly, and differ from the average.
    for after, before, average in zip(model.get_weights(), weights, averaged, strict=True):
        np.testing.assert_array_equal(after, before)
        assert np.abs(after - average).max() > 1e-3
    assert abs(loss(model, data) - measured) > 1e-4
    loaded = keras.models.load_model(best.path)
    np.testing.assert_array_equal(loaded.get_weights()[0], averaged[0])
    # The loaded optimizer continues with the same average.
    np.testing.assert_array_equal(loaded.optimizer.averages[0], averaged[0])


def test_without_an_average_nothing_changes(tmp_path):
    model, data, measured, _ = fitted(tmp_path)
    assert loss(model, data) == pytest.approx(measured, rel=1e-6)
    fresh = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    fresh.compile(training.optimizer("sgd", fresh, 0.1, ema_decay=0.9), "mse")
    fresh.optimizer.build(fresh.trainable_variables)
    before = fresh.get_weights()
    with training.averaged_weights(fresh):
        np.testing.assert_array_equal(fresh.get_weights()[0], before[0])


def test_the_weights_are_restored_after_an_error(tmp_path):
    model, *_ = fitted(tmp_path, ema_decay=0.9)
    before = model.get_weights()
    with pytest.raises(KeyError), training.averaged_weights(model):
        raise KeyError
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
