"""Random numbers as functions of a seed, and operations on those images of a batch that drew them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_vit.training.lazy_modules import tf

_COLUMNS = 64


def numbers_of(seed: tf.Tensor) -> tf.Tensor:
    """Draw all numbers in [0, 1) that one image can need, for `Draws`.

    Args:
        seed: (2,), int64.
    """
    return tf.random.stateless_uniform([_COLUMNS], seed)


class Draws:
    """Hands out the random numbers of a batch's images, each once, in the order of the calls.

    Each method gives (batch,) values, one for each image, which depend on that image's numbers alone.

    Args:
        numbers: (batch, numbers), rows of `numbers_of`.
    """

    def __init__(self, numbers: tf.Tensor):
        self._columns = iter(tf.unstack(tf.ensure_shape(numbers, (None, _COLUMNS)), axis=1))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
        """Return numbers distributed uniformly over [low, high)."""
        number = next(self._columns, None)
        if number is None:
            raise ValueError(
                f"An augmentation draws at most {_COLUMNS} numbers for an image; give it fewer operations."
            )
        return low + (high - low) * number

    def normal(self) -> tf.Tensor:
        """Return numbers of the standard normal distribution."""
        # 0 would be minus infinity; the smallest number above it that is drawn is 2 ** -23.
        return tf.math.ndtri(tf.maximum(self.uniform(), 2.0**-24))

    def chance(self, probability: float | tf.Tensor) -> tf.Tensor:
        """Return True with a probability."""
        return self.uniform() < probability

    def choice(self, count: int) -> tf.Tensor:
        """Return one of 0 ... count - 1."""
        return tf.minimum(tf.cast(self.uniform() * count, tf.int32), count - 1)

    def sign(self) -> tf.Tensor:
        """Return 1 or -1."""
        return tf.where(self.chance(0.5), 1.0, -1.0)


def by_choice(images: tf.Tensor, choice: tf.Tensor, operations: Sequence[Callable], *arguments: tf.Tensor) -> tf.Tensor:
    """Apply to each image of a batch the operation that it drew; no operation computes on other images.

    Args:
        images: (batch, ...).
        choice: (batch,), int32: the number of an operation, or a number beyond them for none.
        operations: Each is called with images and with its part of each of the arguments.
        arguments: (batch, ...) each.
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
