"""Add random numbers to image data, from which masks are drawn."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_vit.training.data import ImageData


def with_noise(data: ImageData, numbers: int, seed: int = 0, made: Callable = tf.identity) -> ImageData:
    """Return image data whose images are pairs (images, random numbers), with several numbers in [0, 1) for each image.

    The numbers depend on the seed, the epoch and the place of the image in the epoch. So a resumed run continues with
    the same masks, and several workers together draw those of a single one. Validation images always get the same.

    Args:
        data: Image data that is ready for the model, see `ImageData.for_model`. If its images are tuples already, the
            random numbers come after the last entry.
        numbers: The number of random numbers of an image, such as one for each patch.
        seed: The seed of the random numbers.
        made: A function that turns the random numbers (batch, numbers) into what the data has in their place.
    """
    given, size = data.train, data.batch_size

    @functools.wraps(given)
    def train(epoch, skip_steps=0, input_context=None):
        workers, worker, context = 1, 0, {}
        if input_context is not None:
            workers, worker = input_context.num_input_pipelines, input_context.input_pipeline_id
            context = {"input_context": input_context}
        number = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
        batches = given(epoch, skip_steps, **context).enumerate(skip_steps)
        return batches.map(
            _with_noise((size, numbers), number, made, workers, worker), num_parallel_calls=tf.data.AUTOTUNE
        )

    validation = data.validation
    if validation is not None:
        number = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        validation = validation.enumerate().map(_with_noise((size, numbers), number, made, 1, 0))
    settings = {**data.settings, "mask_seed": seed}
    return dataclasses.replace(data, train=train, validation=validation, settings=settings, prepare=None)


def _with_noise(shape, number, made, workers, worker):
    @tf.autograph.experimental.do_not_convert
    def add(step, batch):
        images, labels = batch
        # An image's place in the batch of all workers, see `ImageData.train`.
        noise = tf.random.stateless_uniform(shape, tf.stack([tf.constant(number, tf.int64), step]))[worker::workers]
        images = images if isinstance(images, tuple) else (images,)
        return (*images, made(noise[: tf.shape(images[0])[0]])), labels

    return add
