"""Define the image data that `keras_vit.training.fit` trains on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.training.lazy_modules import tf

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ImageData:
    """Batches of labeled images for training, validation and test.

    Every dataset yields batches (images, labels). Images have the shape (batch, height, width, channels) and labels,
    one-hot or mixed, the shape (batch, classes); both are float32. With several views, images are a tuple of such
    arrays, one per view.

    Unless the data was created with `statistics`, its images are pixels in [0, 255] until it is known which model they
    are for. `fit` and `evaluate` of `keras_vit.training`, and `quantize_aware` and `verify` of `keras_vit.edge`, then
    normalize them as the model takes them. For anything else, such as Keras' own `fit`, use `for_model`.

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
        prepare: Function that returns this data for a model, see `for_model`. None if the images are as they are.
        depends_on_model: Whether a model has yet to decide how the images are normalized.
        created: The fields that the data was created with, to recognize those that `dataclasses.replace` changed.
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
    prepare: Callable[[keras.Model], ImageData] | None = None
    depends_on_model: bool = False
    created: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        if not self.created:
            object.__setattr__(self, "created", {part.name: getattr(self, part.name) for part in _parts()})

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def for_model(self, model: keras.Model) -> ImageData:
        """Return this data with images as a model takes them.

        What the data does not state, the model decides: the statistics by which images are normalized, or whether they
        stay in [0, 255] because the model normalizes them, and the crop and interpolation of evaluation. The order and
        the augmentation of the images stay the same, and so do fields that you changed with `dataclasses.replace`.

        Args:
            model: The model to train or evaluate.

        Raises:
            ValueError: If the data states other statistics than the model's, or if it states none and it is not known
                how the model takes images.
        """
        if self.prepare is None:
            return self
        return dataclasses.replace(self.prepare(model), **self.changed)

    @property
    def changed(self) -> dict:
        """The fields that were changed after the data was created, by name."""
        values = {part.name: getattr(self, part.name) for part in _parts()}
        return {name: value for name, value in values.items() if value is not self.created[name]}

    def epochs(self, first: int = 0) -> tf.data.Dataset:
        """Return an endless dataset of the batches of consecutive epochs, for use with `keras.Model.fit`.

        Example:

            data = data.for_model(model)
            model.fit(data.epochs(), steps_per_epoch=data.steps_per_epoch, validation_data=data.validation)

        Args:
            first: Number of the first epoch.

        Returns:
            A dataset of batches (images, labels).

        Raises:
            ValueError: If it is not known which model the images are for.
        """
        if self.depends_on_model:
            raise ValueError(
                "The data does not know how to normalize its images: call data.for_model(model).epochs(), or state "
                "`statistics` when you create the data."
            )

        def batches():
            for epoch in itertools.count(first):
                yield from self.train(epoch, 0)

        endless = tf.data.Dataset.from_generator(batches, output_signature=self.train(first, 0).element_spec)
        return endless.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def _parts():
    """Return the fields of `ImageData` that describe the images."""
    return [
        part for part in dataclasses.fields(ImageData) if part.name not in ("prepare", "depends_on_model", "created")
    ]
