"""Pruning: which weights become zero, when, and that they stay zero up to the file."""

import zlib
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge, training

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(16, 8, 8, 3)).astype("float32")
LABELS = np.arange(16) % 3


def network():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(12, 3, activation="relu", name="conv")(image)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(10, name="head")(x))


def fit(model, prune, learning_rate=0.0, epochs=4, **settings):
    model.compile(
        keras.optimizers.SGD(learning_rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True), **settings
    )
    model.fit(IMAGES, LABELS, batch_size=4, epochs=epochs, callbacks=[prune], verbose=0)


def kernel_of(model, name):
    return np.array(model.get_layer(name).kernel)


@pytest.mark.parametrize("sparsity", [0.5, 0.8])
def test_the_smallest_weights_of_each_kernel_become_zero(sparsity):
    model = network()
    before = {name: kernel_of(model, name) for name in ("conv", "depthwise", "head")}
    fit(model, training.Prune(sparsity))
    for name in ("conv", "head"):
        size = before[name].size
        kept = np.argsort(np.abs(before[name]).ravel())[round(size * sparsity) :]
        expected = np.zeros(size, "float32")
        expected[kept] = before[name].ravel()[kept]
        np.testing.assert_array_equal(kernel_of(model, name).ravel(), expected)
    np.testing.assert_array_equal(kernel_of(model, "depthwise"), before["depthwise"])


def test_two_of_four_neighboring_inputs_become_zero():
    model = network()
    before = {name: kernel_of(model, name) for name in ("conv", "head")}
    fit(model, training.Prune(pattern="2:4"))
    inputs = before["head"].T.reshape(10, -1, 4)  # (outputs, groups, neighbors)
    expected = np.where(np.argsort(np.argsort(np.abs(inputs))) >= 2, inputs, 0)
    np.testing.assert_array_equal(kernel_of(model, "head").T.reshape(expected.shape), expected)
    # A group with three channels: the fourth is padding.
    channels = np.moveaxis(before["conv"], 3, 0).reshape(-1, 3)
    expected = np.where(np.argsort(np.argsort(np.abs(channels))) >= 1, channels, 0)
    np.testing.assert_array_equal(np.moveaxis(kernel_of(model, "conv"), 3, 0).reshape(-1, 3), expected)


def test_the_sparsity_grows_by_the_cubic_schedule():
    model = network()
    found = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: found.append((kernel_of(model, "head") == 0).mean())
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    prune = training.Prune(0.6, begin=0.25, end=0.75, every_steps=2)
    model.fit(IMAGES, LABELS, batch_size=4, epochs=4, callbacks=[prune, count], verbose=0)
    steps = np.arange(1, 17)
    # Steps 4 to 12 of 16, every second one, and 12 to the end.
    due = np.clip(np.where(steps < 4, 4, steps - steps % 2), 4, 12)
    expected = np.where(steps < 4, 0, 0.6 - 0.6 * (1 - (due - 4) / 8) ** 3)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_zeros_stay_zero_while_the_others_learn():
    model = network()
    masks = []
    record = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: masks.append(kernel_of(model, "head") != 0)
    )
    before = kernel_of(model, "head")
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(IMAGES, LABELS, batch_size=4, epochs=4, callbacks=[training.Prune(), record], verbose=0)
    assert np.array_equal(masks[1], masks[3]) and masks[3].mean() == pytest.approx(0.5, abs=0.01)
    assert (kernel_of(model, "head") != before)[masks[3]].all()


def test_a_run_that_is_continued_keeps_its_zeros(tmp_path):
    def run(model, epochs, stop=None, **settings):
        class Stop(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.stop_training = epoch + 1 == stop

        training.fit(
            model,
            (IMAGES, LABELS),
            batch_size=4,
            epochs=epochs,
            learning_rate=1e-2,
            from_logits=True,
            run_dir=tmp_path / settings.pop("name"),
            callbacks=[training.Prune(end=0.25), Stop()],
            verbose=0,
            **settings,
        )
        return kernel_of(model, "head")

    model = network_of_three_classes()
    whole = run(model, 4, name="whole")
    run(network_of_three_classes(), 4, stop=2, name="part")
    continued = run(network_of_three_classes(), 4, name="part", resume=True)
    np.testing.assert_array_equal(continued, whole)
    assert (whole == 0).mean() == pytest.approx(0.5, abs=0.01)


def network_of_three_classes():
    model = network()
    keras.utils.set_random_seed(1)
    return keras.Model(model.inputs, keras.layers.Dense(3, name="head")(model.layers[-2].output))


def test_a_pruned_model_has_zeros_in_its_file_which_compress(tmp_path):
    sizes = []
    for callbacks in ([], [training.Prune(0.75)]):
        model = keras_vit.ViT(
            input_shape=(8, 8, 3), patch_size=4, width=64, depth=1, num_heads=2, classes=3, classifier_activation=None
        )
        quantized = edge.quantize_aware(model, calibration_data=IMAGES)
        quantized.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        quantized.fit(IMAGES, LABELS, batch_size=4, epochs=4, callbacks=callbacks, verbose=0)
        content = Path(edge.export(quantized, tmp_path / "model.tflite")).read_bytes()
        sizes.append((len(content), len(zlib.compress(content))))
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] < 0.75 * sizes[0][1]


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"pattern": "4:8"}, "pattern must be one of .* received '4:8'"),
            ({"sparsity": 1.0}, "sparsity must be above 0 and below 1"),
            ({"sparsity": 0.75, "pattern": "2:4"}, "and 0.5 for '2:4'; received 0.75"),
            ({"begin": 0.5, "end": 0.5}, "received begin=0.5, end=0.5"),
            ({"every_steps": 0}, "at least 1; received 0"),
        ],
    )
    def test_settings(self, settings, words):
        with pytest.raises(ValueError, match=words):
            training.Prune(**settings)

    def test_a_model_with_nothing_to_prune(self):
        model = network()
        for name in ("conv", "head"):
            model.get_layer(name).trainable = False
        with pytest.raises(ValueError, match="no trainable dense layer or convolution to prune"):
            fit(model, training.Prune())

    def test_a_moving_average(self, tmp_path):
        with pytest.raises(ValueError, match="pass ema_decay=None"):
            training.fit(
                network_of_three_classes(),
                (IMAGES, LABELS),
                epochs=1,
                learning_rate=1e-3,
                ema_decay=0.9,
                from_logits=True,
                run_dir=tmp_path / "run",
                callbacks=[training.Prune()],
                verbose=0,
            )
