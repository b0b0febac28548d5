"""DINO: the authors' head and loss, the updates of the teacher, the schedules, and training runs."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit import training
from keras_vit.training.self_supervised.dino import (
    DINOSchedule,
    ProjectionHead,
    SelfDistillationLoss,
    WeightNormalizedDense,
    teacher_and_student,
)
from tests.reference import fixture, timm_weights

TINY = dict(include_top=False, patch_size=4, width=24, depth=2, num_heads=3, position_resizing="cubic_offset")
HEAD = dict(prototypes=20, hidden=16, bottleneck=8)


def encoder(size=16, **settings):
    keras.utils.set_random_seed(1)
    return keras_vit.ViT(input_shape=(size, size, 3), **{**TINY, **settings})


def numpy_of(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


class TestTheAuthorsHead:
    expected = fixture("dino_head")

    def head(self):
        weights = timm_weights("dino_head")
        head = ProjectionHead(1024)
        head.build((None, 384))
        for name, place in (("hidden1", 0), ("hidden2", 2), ("bottleneck", 4)):
            layer = getattr(head, name)
            layer.kernel.assign(weights[f"mlp.{place}.weight"].T)
            layer.bias.assign(weights[f"mlp.{place}.bias"])
        head.prototypes.kernel.assign(weights["last_layer.weight_v"].T)
        return head

    def test_outputs(self):
        head, features = self.head(), np.random.RandomState(0).standard_normal((4, 384)).astype("float32")
        outputs = np.asarray(head(features))
        np.testing.assert_allclose(outputs, self.expected["logits"], atol=1e-5)
        # Those of the last layer's norm, which are fixed at 1, count.
        found = sum(np.prod(variable.shape) for variable in head.weights if variable.name != "frozen")
        assert found == int(self.expected["params"])

    def test_a_trained_gain(self):
        import zlib

        head, features = self.head(), np.random.RandomState(0).standard_normal((4, 384)).astype("float32")
        random = np.random.RandomState(zlib.crc32(b"last_layer.weight_g"))
        gains = random.standard_normal((1024, 1)).astype("float32")
        head.prototypes.gain.assign(gains[:, 0])
        np.testing.assert_allclose(head(features), self.expected["logits_with_weight_g_from_its_name"], atol=1e-5)


class TestTheAuthorsLoss:
    def test_three_calls_in_a_row(self):
        expected = fixture("dino_loss")
        crops, batch, outputs = (int(expected[name]) for name in ("crops", "batch", "out_dim"))
        layer = SelfDistillationLoss(crops)
        layer.build((None, outputs), (None, outputs))
        schedule = DINOSchedule()
        for call in range(3):
            student, teacher = (
                np.random.RandomState(int(expected[f"{name}_seed"][call])).standard_normal((views * batch, outputs))
                for name, views in (("student", crops), ("teacher", 2))
            )
            student = tf.Variable(student.astype("float32"))
            temperature = schedule.temperature(int(expected[f"epoch_{call}"]))
            assert temperature == pytest.approx(float(expected[f"teacher_temperature_{call}"]), rel=1e-6)
            layer.teacher_temperature.assign(temperature)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(layer(student, teacher.astype("float32"), training=True))
            assert float(loss) == pytest.approx(float(expected[f"loss_{call}"]), rel=1e-5)
            np.testing.assert_allclose(layer.center, expected[f"center_after_{call}"][0], atol=1e-6)
            gradient = np.asarray(tape.gradient(loss, student))[:, :64]
            np.testing.assert_allclose(gradient, expected[f"student_grad_{call}"], atol=1e-5)

    def test_the_center_does_not_change_in_evaluation(self):
        layer = SelfDistillationLoss(2)
        outputs = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
        assert layer(outputs, outputs, training=False).shape == (2, 1)
        np.testing.assert_array_equal(layer.center, np.zeros(5))


class TestPositionsOfOtherSizes:
    def test_they_are_those_of_a_resized_model(self):
        """The tokens of a small view equal those of the model at that size, with its table resized on loading."""
        large = encoder(16)
        small = keras_vit.resize_model(large, (8, 12, 3))
        model, _ = training.self_distillation(large, [(16, 16, 3)] * 2 + [(8, 12, 3)], **HEAD)
        pixels = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype("float32")
        feature = model.get_layer("feature")
        outputs = keras.Model(model.inputs, [node.outputs[0] for node in feature._inbound_nodes])
        views = [np.zeros((2, 16, 16, 3), "float32")] * 2 + [pixels]
        np.testing.assert_allclose(outputs(views)[1], np.asarray(small(pixels))[:, 0], atol=1e-5)

    def test_gradients_reach_the_table(self):
        backbone = encoder(16)
        layer = backbone.get_layer("position_embedding")
        with tf.GradientTape() as tape:
            tokens = layer(tf.zeros((1, 1 + 6, 24)), grid=(2, 3))
            total = tf.reduce_sum(tokens[:, 1:])
        gradient = np.asarray(tape.gradient(total, layer.table.value))
        # The weights of each resized position sum to 1.
        assert gradient[0, 1:].sum() == pytest.approx(6 * 24, rel=1e-5) and not gradient[0, 0].any()


class TestUpdates:
    """Three steps of the whole update, in NumPy from the published formulas."""

    def test_teacher_and_weight_decay_and_clipping(self, tmp_path):
        steps, rates, clip = 3, (0.04, 0.4), 0.01
        backbone = encoder(8, drop_path_rate=0.0)
        method = training.DINO(**HEAD, teacher_momentum=0.9, frozen_epochs=0)
        recorded = []

        class Record(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                recorded.append([numpy_of(group) for group in teacher_and_student(self.model)])

            def on_train_begin(self, logs=None):
                self.on_train_batch_end(0)

        settings = dict(epochs=1, learning_rate=1e-3, clip_norm=None, clip_variable_norm=clip, verbose=0)
        decay = dict(weight_decay=rates[0], final_weight_decay=rates[1], optimizer="sgd")
        decay["optimizer_settings"] = {"momentum": 0.0}
        run = {"run_dir": tmp_path / "run", "callbacks": [Record()], "schedule": "constant", **settings, **decay}
        training.pretrain(backbone, multi_view_data(steps=steps), method, **run)
        assert len(recorded) == steps + 1
        teacher = recorded[0][0]
        for t, w in zip(*recorded[0], strict=True):
            np.testing.assert_array_equal(t, w)
        for step in range(steps):
            momentum = 1 - (1 - 0.9) * (math.cos(math.pi * step / steps) + 1) / 2
            student = recorded[step + 1][1]
            teacher = [momentum * t + (1 - momentum) * s for t, s in zip(teacher, student, strict=True)]
            for found, expected in zip(recorded[step + 1][0], teacher, strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
            decayed = rates[1] + 0.5 * (rates[0] - rates[1]) * (1 + math.cos(math.pi * step / steps))
            for before, after in zip(recorded[step][1], student, strict=True):
                kept = before if before.ndim < 2 or before.shape[0] == 1 else before * (1 - 1e-3 * decayed)
                # The clipped gradient is at most 0.01 long, for each variable on its own.
                assert np.linalg.norm(after - kept) <= 1e-3 * clip * (1 + 1e-3) + 1e-6

    def test_each_gradient_is_clipped_on_its_own(self):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        optimizer = training.optimizer("sgd", model, 1.0, clip_variable_norm=3.0, momentum=0.0)
        before = numpy_of(model.trainable_variables)
        gradients = [np.full(v.shape, 10.0 * (i + 1), "float32") for i, v in enumerate(before)]
        gradients[1][:] = 0.1
        optimizer.apply([tf.constant(g) for g in gradients], model.trainable_variables)
        for old, new, g in zip(before, numpy_of(model.trainable_variables), gradients, strict=True):
            length = np.linalg.norm(g)
            np.testing.assert_allclose(old - new, g * min(1, 3.0 / length), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", ["adamw", "lamb", "lars", "lion", "soap"])
    def test_the_weight_decay_follows_a_half_cosine(self, name):
        """Without gradients, only the weight decay changes the weights."""
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
        settings = dict(weight_decay=0.1, final_weight_decay=0.4, weight_decay_steps=4)
        constant = training.optimizer(name, model, 0.1, weight_decay=1.0)
        scheduled = training.optimizer(name, model, 0.1, **settings)
        constant.build(model.trainable_variables)
        scheduled.build(model.trainable_variables)
        for step in range(6):
            scheduled.iterations.assign(step)
            part = min(step / 4, 1)
            expected = 0.4 + 0.5 * (0.1 - 0.4) * (1 + math.cos(math.pi * part))
            assert float(scheduled.current_weight_decay(0)) == pytest.approx(expected, rel=1e-5)
        assert constant.current_weight_decay(0) == 1.0

    def test_a_frozen_last_layer_gets_no_gradient(self):
        layer = WeightNormalizedDense(3)
        layer.build((None, 4))
        x = tf.ones((2, 4))
        for frozen in (0.0, 1.0):
            layer.frozen.assign(frozen)
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(layer(x) ** 2)
            gradient = tape.gradient(total, layer.kernel.value)
            assert (np.abs(gradient).max() == 0) == bool(frozen)


def multi_view_data(steps=2, batch_size=4):
    """Return digits in color, in two global views of 8 x 8 pixels and two local ones of 4 x 4."""
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (steps * batch_size, 8, 8, 1)), 3, axis=3)
    crop = training.RandomResizedCrop
    views = [training.Augmentation(crop(scale=(0.5, 1.0)), flip=0.0)] * 2
    views += [training.Augmentation(crop(scale=(0.2, 0.5)), flip=0.0, image_size=4)] * 2
    labels = np.arange(len(images)) % 2
    images = images.astype("uint8")
    settings = dict(image_size=8, batch_size=batch_size, augmentation=tuple(views))
    return training.arrays(images, labels, validation=(images, labels), **settings)


def test_the_teacher_computes_without_dropout_in_training():
    model, _ = training.self_distillation(encoder(8, dropout_rate=0.5), [(8, 8, 3)] * 2, **HEAD)
    pooled = [model.get_layer(name).output for name in ("teacher_feature", "feature")]
    outputs = keras.Model(model.inputs, pooled)
    views = [np.random.default_rng(view).normal(size=(2, 8, 8, 3)).astype("float32") for view in range(2)]
    (teacher, student), (expected, without_dropout) = (outputs(views, training=mode) for mode in (True, False))
    np.testing.assert_array_equal(teacher, expected)
    assert np.abs(student - without_dropout).max() > 0.1


class TestRuns:
    settings = dict(epochs=2, learning_rate=1e-3, clip_norm=None, clip_variable_norm=3.0, verbose=0, checkpoint_steps=1)

    def run(self, folder, **settings):
        backbone = encoder(8)
        result = training.pretrain(
            backbone, multi_view_data(), training.DINO(**HEAD), run_dir=folder, **{**self.settings, **settings}
        )
        return backbone, result

    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory):
        return self.run(tmp_path_factory.mktemp("dino") / "run")

    def test_the_saved_encoder_is_the_teachers(self, whole):
        backbone, result = whole
        saved = keras.models.load_model(result.encoder)
        assert saved.output_shape == (None, 5, 24) and all(layer.trainable for layer in saved.layers)
        model = keras.models.load_model(result.run_dir / "best.keras")
        teacher = next(layer for layer in model.layers if isinstance(layer, keras.Model))
        assert len(teacher.weights) == len(saved.weights) == len(backbone.weights)
        difference = [np.abs(a - b).max() for a, b in zip(numpy_of(saved.weights), backbone.get_weights(), strict=True)]
        assert 0 < max(difference) < 0.01

    @pytest.mark.slow
    def test_a_resumed_run_equals_an_uninterrupted_one(self, whole, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if int(self.model.optimizer.iterations) == 3:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path / "run", callbacks=[Stop()])
        backbone, result = self.run(tmp_path / "run", resume=True)
        for resumed, expected in zip(backbone.weights, whole[0].weights, strict=True):
            np.testing.assert_array_equal(resumed, expected)
        assert result.history == whole[1].history
        teachers = [keras.models.load_model(one.encoder).get_weights() for one in (result, whole[1])]
        for resumed, expected in zip(*teachers, strict=True):
            np.testing.assert_array_equal(resumed, expected)

    def test_data_with_a_single_view_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="several views of each image"):
            training.pretrain(encoder(8), training.digits(), "dino", run_dir=tmp_path / "run", **self.settings)

    def test_views_of_other_sizes_are_refused(self):
        with pytest.raises(ValueError, match="The first two views must have the size"):
            training.self_distillation(encoder(16), [(8, 8, 3), (8, 8, 3)])
