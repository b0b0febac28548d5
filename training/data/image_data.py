"""Define the image data that `keras_vit.training.fit` trains on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from keras_vit.training.lazy_modules import tf


@dataclass(frozen=True)
class ImageData:
    """Batches of labeled images for training, validation and test.

    Every dataset yields batches (images, labels). Images have the shape (batch, height, width, channels) and labels,
    one-hot or mixed, the shape (batch, classes); both are float32. With several views, images are a tuple of such
    arrays, one per view.

    Attributes:
        class_names: Name of each class, in the order of the columns of the labels.
        input_shape: Shape of an image: (height, width, channels).
        batch_size: Number of images in a batch. Every batch of `train` has this size, unless images have several sizes.
        steps_per_epoch: Number of batches in an epoch of `train`.
        train: Function `train(epoch, skip_steps)` that returns the batches of an epoch (counted from 0) without the
            first `skip_steps` batches. The batches depend only on the epoch and on `settings`, so a resumed run
            continues with the same batches as an uninterrupted one. The sources of `keras_vit.training` also accept a
            `tf.distribute.InputContext` as `input_context`, and then return one worker's part of each batch.
        validation: Batches that contain each validation image once.
        settings: All settings that determine the batches, as JSON types. A run can be resumed only with equal settings.
        test: Batches that contain each test image once, or None if there are no test images.
        test_images: Test images as one float32 array of shape (images, height, width, channels), or None if they are
            not in memory.
        test_labels: Classes of `test_images`, of shape (images,), int64, or None.
        corrupt: Images that could not be decoded so far: the reason for each, by name.
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
        """Return an endless dataset of the batches of consecutive epochs, for use with `keras.Model.fit`.

        Example: `model.fit(data.epochs(), steps_per_epoch=data.steps_per_epoch, validation_data=data.validation)`.

        Args:
            first: Number of the first epoch.

        Returns:
            A dataset of batches (images, labels).
        """

        def batches():
            for epoch in itertools.count(first):
                yield from self.train(epoch, 0)

        endless = tf.data.Dataset.from_generator(batches, output_signature=self.train(first, 0).element_spec)
        return endless.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
