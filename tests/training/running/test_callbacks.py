"""Check the callbacks in a user's own call of `model.fit`."""

import json

import keras
import numpy as np
import pytest
import safetensors

from keras_vit import training

FEATURES = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
LABELS = (FEATURES[:, 0] > 0).astype("float32")


def compiled(learning_rate=0.01):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(learning_rate), "binary_crossentropy", metrics=["accuracy"])
    return model


def fit(model, callbacks, epochs=4, **arguments):
    model.fit(
        *(FEATURES, LABELS),
        batch_size=16,
        shuffle=False,
        epochs=epochs,
        validation_data=(FEATURES, LABELS),
        callbacks=callbacks,
        verbose=0,
        **arguments,
    )


def test_training_continues_from_a_checkpoint(tmp_path):
    whole = compiled()
    fit(whole, [training.TrainingCheckpoint(tmp_path / "whole.safetensors")])

    fit(compiled(), [training.TrainingCheckpoint(tmp_path / "part.safetensors")], epochs=2)
    model, checkpoint = compiled(), training.TrainingCheckpoint(tmp_path / "part.safetensors")
    assert checkpoint.restore(model) == (2, 0)
    fit(model, [checkpoint], initial_epoch=2)
    for ours, theirs in zip(model.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    other = compiled()
    fit(other, [], initial_epoch=2)
    assert not np.array_equal(other.get_weights()[0], whole.get_weights()[0])


def test_checkpoints_are_written_every_few_steps_and_once_at_the_end_of_an_epoch(tmp_path):
    written = []

    class Watched(training.TrainingCheckpoint):
        def write(self, model, epoch, step):
            super().write(model, epoch, step)
            with safetensors.safe_open(self.path, framework="numpy") as file:
                header = json.loads(file.metadata()["keras_vit.training"])
            written.append((header["epoch"], header["step"]))

    fit(compiled(), [Watched(tmp_path / "checkpoint.safetensors", every_steps=2)], epochs=2)
    assert written == [(0, 2), (1, 0), (1, 2), (2, 0)]


def test_a_checkpoint_of_another_model_is_rejected_without_changing_the_model(tmp_path):
    checkpoint = training.TrainingCheckpoint(tmp_path / "checkpoint.safetensors")
    fit(compiled(), [checkpoint], epochs=1)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    other.compile("adam", "mse")
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"another model: .*kernel has shape \(4, 2\) here and \(4, 1\)"):
        checkpoint.restore(other)
    rather = compiled()
    rather.compile("sgd", "mse")
    with pytest.raises(ValueError, match="another optimizer"):
        checkpoint.restore(rather)
    np.testing.assert_array_equal(before[0], other.get_weights()[0])


def test_a_failed_write_keeps_the_previous_file(tmp_path, monkeypatch):
    checkpoint = training.TrainingCheckpoint(tmp_path / "checkpoint.safetensors")
    model = compiled()
    fit(model, [checkpoint], epochs=1)
    before = checkpoint.path.read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(model, 1, 0)
    assert checkpoint.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_the_best_model_has_the_highest_accuracy_and_then_the_lowest_loss(tmp_path):
    best = training.BestModel(tmp_path / "best.keras")
    model = compiled()
    best.set_model(model)
    saved = []
    epochs = [(0.5, 1.0), (0.7, 0.9), (0.6, 0.1), (0.7, 0.95), (0.7, 0.8), (0.7, float("nan"))]
    for epoch, (accuracy, loss) in enumerate(epochs):
        model.layers[-1].bias.assign([epoch])
        best.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
        saved.append(int(keras.models.load_model(best.path, compile=False).layers[-1].bias[0]))
    assert saved == [0, 1, 1, 1, 4, 4]


def test_a_model_with_infinite_weights_is_not_saved(tmp_path):
    best = training.BestModel(tmp_path / "best.keras")
    model = compiled()
    best.set_model(model)
    model.layers[-1].bias.assign([np.inf])
    best.on_epoch_end(0, {"val_accuracy": 1.0, "val_loss": 0.1})
    assert not best.path.exists()


def test_best_model_requires_validation(tmp_path):
    with pytest.raises(ValueError, match="needs val_accuracy and val_loss"):
        compiled().fit(FEATURES, LABELS, verbose=0, callbacks=[training.BestModel(tmp_path / "best.keras")])


def test_an_infinite_loss_stops_the_training():
    model = compiled()
    model.compile(model.optimizer, lambda y, scores: keras.ops.mean(scores) * np.inf)
    with pytest.raises(FloatingPointError, match=r"The loss is inf at epoch 1, step 1, .* rate 0\.01"):
        fit(model, [training.StopAtNonFiniteLoss()])


def test_an_infinite_validation_loss_stops_the_training():
    model = compiled()
    with pytest.raises(FloatingPointError, match="The val_loss is nan at epoch 1, step 4"):
        model.fit(
            *(FEATURES, LABELS),
            batch_size=16,
            validation_data=(FEATURES * np.nan, LABELS),
            callbacks=[training.StopAtNonFiniteLoss()],
            verbose=0,
        )
