"""Check that images which a user prepared are in the range that the model takes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from keras_vit.models.model_images import check_range
from keras_vit.training.data.image_data import ImageData


class RangeCheck(keras.callbacks.Callback):
    """Check the first training batch and the first validation batch of image data while they are read.

    Reading a batch in advance would fill shuffle buffers twice, and could cause a deadlock: to release a partly read
    dataset, TensorFlow waits for its threads, which in turn may wait for Python.

    An error that is raised within a dataset is logged by TensorFlow twice, each time with its traceback. So training
    data that is not in the range ends before its first batch, and the callback stops at such validation data.

    Args:
        model: The model that takes the images.
    """

    def __init__(self, model):
        super().__init__()
        self._taker = model
        self._error: ValueError | None = None

    def data(self, data: ImageData) -> ImageData:
        """Return the data with the check of those images that it does not prepare itself."""

        given = data.train

        @functools.wraps(given)
        def train(*args, **kwargs):
            batches = given(*args, **kwargs).enumerate().take_while(self._first_suits)
            return batches.map(lambda step, batch: batch)

        if data.prepare is None or "train" in data.changed:
            data = dataclasses.replace(data, train=train)
        if data.validation is not None and (data.prepare is None or "validation" in data.changed):
            # Not ended early: Keras warns after each pass over data whose size it can't know.
            data = dataclasses.replace(data, validation=data.validation.enumerate().map(self._after_check))
        return data

    @contextlib.contextmanager
    def errors(self, on_error: Callable[[], None]) -> Iterator[None]:
        """Raise the error of a check, rather than what Keras says about data that ends early.

        Args:
            on_error: Called before the error is raised.

        Raises:
            ValueError: If the images of a first batch are not in the range that the model takes.
        """
        try:
            with warnings.catch_warnings():
                yield
        except Exception:
            if self._error is None:
                raise
        if self._error is not None:
            on_error()
            raise self._error

    def on_test_batch_end(self, batch, logs=None):
        if self._error is not None:
            raise self._error

    def _first_suits(self, step, batch):
        images = tf.nest.flatten(batch)[0]
        return tf.cond(
            tf.equal(step, 0), lambda: tf.numpy_function(self._suits, [images], tf.bool), lambda: tf.constant(True)
        )

    def _after_check(self, step, batch):
        with tf.control_dependencies([self._first_suits(step, batch)]):
            return tf.nest.map_structure(tf.identity, batch)

    def _suits(self, images):
        try:
            check_range(images, self._taker)
        except ValueError as error:
            self._error = error
            warnings.filterwarnings("ignore", "Your input ran out of data")
        return self._error is None
