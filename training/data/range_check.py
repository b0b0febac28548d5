"""Check that images which a user prepared are in the range that the model takes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator

import tensorflow as tf

from keras_vit.models.model_images import check_range
from keras_vit.training.data.image_data import ImageData


class RangeCheck:
    """Check the first training batch and the first validation batch of image data while they are read.

    Reading a batch in advance would fill shuffle buffers twice, and could cause a deadlock: to release a partly read
    dataset, TensorFlow waits for its threads, which in turn may wait for Python.

    Args:
        model: The model that takes the images.
    """

    def __init__(self, model):
        self._model = model
        self._error: ValueError | None = None

    def data(self, data: ImageData) -> ImageData:
        """Return the data with the check of those images that it does not prepare itself."""

        given = data.train

        @functools.wraps(given)
        def train(*args, **kwargs):
            return self._checked(given(*args, **kwargs))

        if data.prepare is None or "train" in data.changed:
            data = dataclasses.replace(data, train=train)
        if data.validation is not None and (data.prepare is None or "validation" in data.changed):
            data = dataclasses.replace(data, validation=self._checked(data.validation))
        return data

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the error of a check, which TensorFlow replaces with its own.

        Raises:
            ValueError: If the images of a first batch are not in the range that the model takes.
        """
        try:
            yield
        except tf.errors.OpError:
            if self._error is not None:
                raise self._error from None
            raise

    def _checked(self, dataset):
        def with_check(step, batch):
            images = tf.nest.flatten(batch)[0]
            done = tf.cond(
                tf.equal(step, 0), lambda: tf.numpy_function(self._check, [images], tf.bool), lambda: tf.constant(True)
            )
            with tf.control_dependencies([done]):
                return tf.nest.map_structure(tf.identity, batch)

        return dataset.enumerate().map(lambda step, batch: with_check(step, batch), num_parallel_calls=1)

    def _check(self, images):
        try:
            check_range(images, self._model)
        except ValueError as error:
            self._error = error
            raise
        return True
