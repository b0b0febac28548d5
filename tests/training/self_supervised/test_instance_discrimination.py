"""Instance discrimination: the numbers of the images, CutMix within groups of views, the loss, and training runs."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import training
from keras_vit.training.self_supervised.instance_discrimination import InstanceLoss, with_instances

VALUES = np.arange(5, 245, 20)  # The color of each image, by its number.
RUN = dict(epochs=2, learning_rate=1e-2, clip_norm=None, verbose=0, checkpoint_steps=1)


def crop(smallest, **settings):
    return training.Augmentation(training.RandomResizedCrop(scale=(smallest, 1.0)), flip=0.0, **settings)


def data(views=2, small=1, batch_size=6, seed=0):
    """Return images of one color each, in large views and in small ones."""
    images = np.broadcast_to(VALUES[:, None, None, None], (len(VALUES), 8, 8, 1)).astype("uint8")
    labels = np.arange(len(images)) % 2
    augmentation = (*[crop(0.5)] * views, *[crop(0.2, image_size=4)] * small)
    settings = dict(image_size=8, batch_size=batch_size, augmentation=augmentation, statistics=None, seed=seed)
    return training.arrays(images, labels, validation=(images, labels), **settings)


def encoder():
    keras.utils.set_random_seed(1)
    settings = dict(patch_size=4, width=16, depth=1, num_heads=2, include_preprocessing=True)
    return keras_vit.ViT(include_top=False, input_shape=(8, 8, 1), **settings)


def batches(data, epoch=0, skip_steps=0):
    return [
        ([np.asarray(array) for array in inputs], np.asarray(labels))
        for inputs, labels in data.train(epoch, skip_steps)
    ]


class TestData:
    def test_each_image_has_its_number(self):
        numbered, count = with_instances(data(), cutmix_alpha=0, large_views=2, seed=0)
        assert count == len(VALUES)
        for epoch in range(2):
            seen = []
            for (*views, first, second), labels in batches(numbered, epoch):
                numbers = labels.argmax(axis=1)
                np.testing.assert_array_equal(labels, np.eye(len(VALUES))[numbers])
                np.testing.assert_array_equal(first, labels)
                np.testing.assert_array_equal(second, labels)
                for view in views:
                    np.testing.assert_allclose(view, np.broadcast_to(VALUES[numbers, None, None, None], view.shape))
                seen += numbers.tolist()
            assert sorted(seen) == list(range(len(VALUES)))

    def test_cutmix_of_each_group(self):
        """Both large views have the same box, the labels are its area, and at least half of each image stays."""
        numbered, _ = with_instances(data(small=2), cutmix_alpha=0.5, large_views=2, seed=0)
        shares = []
        for epoch in range(3):
            for (*views, first, second), labels in batches(numbered, epoch):
                own, other = VALUES[labels.argmax(axis=1)], VALUES[labels.argmax(axis=1)][::-1]
                for group, mixed in ((views[:2], first), (views[2:], second)):
                    boxes = [np.isclose(view, other[:, None, None, None], atol=0.5) for view in group]
                    np.testing.assert_array_equal(*boxes)
                    area = boxes[0][0].mean()
                    kept = np.where(boxes[0], other[:, None, None, None], own[:, None, None, None])
                    np.testing.assert_allclose(group[0], kept, atol=0.5)
                    np.testing.assert_allclose(mixed, (1 - area) * labels + area * labels[::-1], atol=1e-6)
                    assert area <= 0.5
                    shares.append(area)
        assert len({*shares}) > 4  # They are drawn for each group.

    def test_batches_do_not_depend_on_where_the_epoch_starts(self):
        numbered, _ = with_instances(data(), cutmix_alpha=0.5, large_views=2, seed=3)
        whole, rest = batches(numbered, 1), batches(numbered, 1, skip_steps=1)
        for a, b in zip(whole[1][0], rest[0][0], strict=True):
            np.testing.assert_array_equal(a, b)

    def test_data_without_numbers_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="data that numbers its training images"):
            training.pretrain(encoder(), training.digits(), "instance_discrimination", run_dir=tmp_path / "run", **RUN)


def test_the_loss_is_the_mean_cross_entropy_of_the_views():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(6, 5)), random.dirichlet(np.ones(5), size=2)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    entropies = -(np.log(probabilities).reshape(3, 2, 5) * labels).sum(axis=2)
    loss = InstanceLoss()(logits.astype("float32"), labels.astype("float32"))
    np.testing.assert_allclose(loss, entropies.mean(axis=0)[:, None], rtol=1e-5)


class TestModel:
    def test_both_groups_count(self):
        model = training.instance_discrimination(encoder(), [(8, 8, 1)] * 2 + [(4, 4, 1)], 12)
        views = [np.random.default_rng(0).uniform(0, 255, (3, size, size, 1)).astype("float32") for size in (8, 8, 4)]
        labels = [np.eye(12, dtype="float32")[:3], np.eye(12, dtype="float32")[3:6]]
        alone = training.instance_discrimination(encoder(), [(8, 8, 1)] * 2, 12)
        small = training.instance_discrimination(encoder(), [(4, 4, 1)], 12, large_views=1)
        for other in (alone, small):
            other.set_weights(model.get_weights())
        expected = alone([*views[:2], labels[0]]) + small([views[2], labels[1]])
        np.testing.assert_allclose(model([*views, *labels]), expected, rtol=1e-5)

    def test_views_of_two_sizes_in_one_group_are_refused(self):
        with pytest.raises(ValueError, match="must have one size"):
            training.instance_discrimination(encoder(), [(8, 8, 1), (4, 4, 1)], 12)


class TestRuns:
    def run(self, folder, batches=None, cutmix=0.5, **settings):
        backbone = encoder()
        method = training.InstanceDiscrimination(cutmix=cutmix)
        settings = {**RUN, "run_dir": folder, **settings}
        return backbone, training.pretrain(backbone, batches or data(), method, **settings)

    def test_it_learns_to_tell_the_images_apart(self, tmp_path):
        batches = data(batch_size=1)
        backbone, result = self.run(tmp_path / "run", batches, cutmix=0, epochs=4, checkpoint_steps=500)
        losses = [row["loss"] for row in result.history]
        # A model that knows nothing has the logarithm of the number of images for each of both groups.
        assert losses[-1] < 0.9 * losses[0] and losses[-1] < 1.9 * np.log(len(VALUES))
        saved = keras.models.load_model(result.encoder)
        assert saved.output_shape == (None, 5, 16)
        for a, b in zip(saved.weights, backbone.weights, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.slow
    def test_a_resumed_run_equals_an_uninterrupted_one(self, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if int(self.model.optimizer.iterations) == 3:
                    raise KeyboardInterrupt

        whole = self.run(tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path / "run", callbacks=[Stop()])
        backbone, result = self.run(tmp_path / "run", resume=True)
        assert result.history == whole[1].history
        for resumed, expected in zip(backbone.weights, whole[0].weights, strict=True):
            np.testing.assert_array_equal(resumed, expected)
