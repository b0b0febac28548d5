"""Derive random numbers from seeds, and apply operations to randomly chosen images of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_vit.training.lazy_modules import tf

_COLUMNS = 64


def numbers_of(seed: tf.Tensor) -> tf.Tensor:
    """Draw all random numbers that one image can need, for use by `Draws`.

    Args:
        seed: Seed of the image, of shape (2,), int64.

    Returns:
        Numbers in [0, 1), of shape (numbers,), float32.
    """
    return tf.random.stateless_uniform([_COLUMNS], seed)


class Draws:
    """Provide random values for the images of a batch.

    Each method uses up one number per image and returns values of shape (batch,). The value for an image depends only
    on the numbers of that image.

    Args:
        numbers: Random numbers of shape (batch, numbers); each row is a result of `numbers_of`.
    """

    def __init__(self, numbers: tf.Tensor):
        self._columns = iter(tf.unstack(tf.ensure_shape(numbers, (None, _COLUMNS)), axis=1))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """Return numbers drawn uniformly from [low, high).

        Raises:
            ValueError: If all numbers have been used.
        """
        number = next(self._columns, None)
        if number is None:
            raise ValueError(f"An augmentation can draw at most {_COLUMNS} numbers per image; use fewer operations.")
        return low + (high - low) * number

    def normal(self) -> tf.Tensor:
        """Return numbers drawn from the standard normal distribution."""
        # 0 would give minus infinity; the smallest positive number that can be drawn is 2 ** -23.
        return tf.math.ndtri(tf.maximum(self.uniform(), 2.0**-24))

    def chance(self, probability: float | tf.Tensor) -> tf.Tensor:
        """Return True with the given probability, otherwise False."""
        return self.uniform() < probability

    def choice(self, count: int) -> tf.Tensor:
        """Return integers drawn uniformly from 0 to count - 1."""
        return tf.minimum(tf.cast(self.uniform() * count, tf.int32), count - 1)

    def sign(self) -> tf.Tensor:
        """Return 1 or -1, each with probability 0.5."""
        return tf.where(self.chance(0.5), 1.0, -1.0)


def by_choice(images: tf.Tensor, choice: tf.Tensor, operations: Sequence[Callable], *arguments: tf.Tensor) -> tf.Tensor:
    """Apply a chosen operation to each image of a batch.

    Each operation runs only on the images that it was chosen for.

    Args:
        images: Images of shape (batch, ...).
        choice: Index of the operation for each image, of shape (batch,), int32. An index of `len(operations)` or more
            leaves the image unchanged.
        operations: Functions called with the selected images and the matching rows of each argument.
        arguments: Further arguments of the operations, each of shape (batch, ...).

    Returns:
        Images of the same shape.
    """
    places = tf.dynamic_partition(
        tf.range(tf.shape(images)[0]), tf.minimum(choice, len(operations)), len(operations) + 1
    )
    parts = [
        operation(*(tf.gather(values, own) for values in (images, *arguments)))
        for operation, own in zip(operations, places, strict=False)
    ]
    parts.append(tf.gather(images, places[-1]))
    return tf.ensure_shape(tf.dynamic_stitch(places, parts), images.shape)


def on_some(images: tf.Tensor, chosen: tf.Tensor, operation: Callable, *arguments: tf.Tensor) -> tf.Tensor:
    """Apply an operation to the images where `chosen` is true, and leave the others unchanged."""
    return by_choice(images, tf.where(chosen, 0, 1), [operation], *arguments)
