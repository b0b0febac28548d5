"""Define what `keras_vit.training.fit` needs of a source of images."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from keras_vit.training.lazy_modules import tf


@dataclass(frozen=True)
class ImageData:
    """Labelled images in three parts, ready to train on.

    Every dataset yields batches (images, labels): images (batch, height, width, channels), float32; labels
    (batch, classes), one-hot or mixed, float32. Images in several views are a tuple of such arrays.

    Attributes:
        class_names: The name of each class, in the order of the labels' columns.
        input_shape: (height, width, channels) of an image.
        batch_size: Images in a batch. Every batch of `train` has this size, except in data of several sizes.
        steps_per_epoch: Batches in an epoch of `train`.
        train: A function `train(epoch, skip_steps)` that returns the batches of an epoch (counted from 0) without the
            first `skip_steps`. The batches depend on the epoch and on `settings` alone, so that a resumed run sees
            the batches that it would have seen. The sources of `keras_vit.training` also take a
            `tf.distribute.InputContext` as `input_context`, and then return one worker's part of each batch.
        validation: Each validation image once.
        settings: All settings that decide the batches, in JSON's types. A run can be resumed only with equal settings.
        test: Each test image once, or None without test images.
        test_images: The test images as one array (images, height, width, channels), float32, if they are in memory.
        test_labels: Their classes (images,), int64.
        corrupt: Images that could not be decoded so far, with the reasons.
    """

    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    batch_size: int
    steps_per_epoch: int
    train: Callable[..., tf.data.Dataset]
    validation: tf.data.Dataset
    settings: dict
    test: tf.data.Dataset | None = None
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    corrupt: dict[str, str] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def epochs(self, first: int = 0) -> tf.data.Dataset:
        """Return the batches of one epoch after the other without end, for Keras' own `fit`.

        `model.fit(data.epochs(), steps_per_epoch=data.steps_per_epoch, epochs=..., validation_data=data.validation)`.

        Args:
            first: The epoch to start with.
        """

        def batches():
            for epoch in itertools.count(first):
                yield from self.train(epoch, 0)

        endless = tf.data.Dataset.from_generator(batches, output_signature=self.train(first, 0).element_spec)
        return endless.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
