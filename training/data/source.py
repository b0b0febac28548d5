"""Define the interface of an image source, and the source of images in a list."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from keras_vit.training.data.decode import Content, read_file
from keras_vit.training.lazy_modules import tf


class Source(Protocol):
    """Provide labeled images in an order that depends on a seed.

    Attributes:
        class_names: Name of each class.
        size: Number of images.
        settings: Properties that distinguish this source from others, as JSON types.
    """

    class_names: tuple[str, ...]
    size: int

    @property
    def settings(self) -> dict: ...

    def references(self, seed: int | None, repeats: int, workers: int, worker: int) -> tf.data.Dataset:
        """Return a reference to each image of one worker.

        Skipping references is cheap, since images are not decoded.

        Args:
            seed: Seed of the order. None returns a fixed order, for evaluation.
            repeats: Number of consecutive times each image is repeated.
            workers: Number of workers that share the images.
            worker: Index of the worker, counted from 0. Each image belongs to only one worker.

        Returns:
            A dataset of references: tuples of tensors, the arguments of `read`.
        """

    def read(self, *reference) -> tuple[Content, int, str]:
        """Return the undecoded image, the class and the name for a reference, given as NumPy values."""


class ListSource:
    """Provide images from a list, with random access.

    With several workers, a batch contains the same images as with one worker.

    Args:
        contents: Images before decoding.
        labels: Class of each image, counted from 0.
        names: Name of each image in messages.
        class_names: Name of each class.
        origin: Where the images come from; recorded in `settings`.

    Raises:
        ValueError: If there are no images.
    """

    def __init__(
        self,
        contents: Sequence[Content],
        labels: Sequence[int],
        names: Sequence[str],
        class_names: Sequence[str],
        origin: str,
    ):
        self.contents, self.names, self.origin = contents, names, origin
        self.labels = np.asarray(labels, "int64")
        self.class_names = tuple(class_names)
        self.size = len(self.labels)
        if not self.size:
            raise ValueError(f"There are no images in {origin}.")

    @property
    def settings(self) -> dict:
        digest = hashlib.sha256("\n".join(self.names).encode() + self.labels.tobytes())
        return {"source": self.origin, "images": self.size, "digest": digest.hexdigest()[:16]}

    def references(self, seed: int | None, repeats: int, workers: int, worker: int) -> tf.data.Dataset:
        order = np.arange(self.size) if seed is None else np.random.default_rng(seed).permutation(self.size)
        return tf.data.Dataset.from_tensor_slices((np.repeat(order, repeats)[worker::workers],))

    def read(self, index: int) -> tuple[Content, int, str]:
        return self.contents[index], int(self.labels[index]), self.names[index]

    def with_every_class(self) -> ListSource:
        """Check that every class has an image, and return the source itself.

        Raises:
            ValueError: If a class has no image.
        """
        empty = [self.class_names[label] for label in sorted(set(range(len(self.class_names))) - set(self.labels))]
        if empty:
            raise ValueError(
                f"There are no images for {len(empty)} of {len(self.class_names)} classes in {self.origin}: "
                f"{', '.join(empty[:10])}; leave these classes out."
            )
        return self

    def numbered(self) -> ListSource:
        """Return the source with the number of each image in place of its class."""
        numbers = range(self.size)
        return ListSource(self.contents, numbers, self.names, [str(number) for number in numbers], self.origin)

    def split(self, fraction: float) -> tuple[ListSource, ListSource]:
        """Split into two sources; the split is always the same.

        Args:
            fraction: Fraction of each class that goes to the second source, at least one image.

        Raises:
            ValueError: If the fraction is not between 0 and 1, or a class does not have at least two images.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"validation_fraction must be between 0 and 1; received {fraction}.")
        rng = np.random.default_rng(0)
        second = np.zeros(self.size, bool)
        for label, name in enumerate(self.class_names):
            own = rng.permutation(np.flatnonzero(self.labels == label))
            if len(own) < 2:
                raise ValueError(
                    f"Class {name} has a single image, which can't be used for both training and validation."
                )
            second[own[: min(max(1, round(fraction * len(own))), len(own) - 1)]] = True
        return self._part(~second, "training part"), self._part(second, "validation part")

    def _part(self, chosen, name):
        indices = np.flatnonzero(chosen)
        contents, names = ([values[index] for index in indices] for values in (self.contents, self.names))
        return ListSource(contents, self.labels[indices], names, self.class_names, f"{self.origin}, {name}")


def in_memory(source: Source) -> ListSource:
    """Read all images of a source into memory."""
    references = source.references(None, repeats=1, workers=1, worker=0)
    found, labels, names = zip(*(source.read(*reference) for reference in references.as_numpy_iterator()), strict=True)
    contents = [read_file(content) if isinstance(content, str) else content for content in found]
    return ListSource(contents, labels, names, source.class_names, source.settings["source"])


def drawn_from_a_stream(
    records: tf.data.Dataset, buffer: int, seed: int | None, repeats: int, workers: int, worker: int
) -> tf.data.Dataset:
    """Return the references of a source that can only be read sequentially.

    Args:
        records: Dataset of records, which are tuples of tensors.
        buffer: Size of the shuffle buffer, in records.
        seed: Seed of the order; None keeps the order of the records.
        repeats: Number of consecutive times each record is repeated.
        workers: Number of workers that share the records; 1 if the records already belong to one worker.
        worker: Index of the worker, counted from 0.

    Returns:
        A dataset of references; see `Source.references`.
    """
    records = records.shard(workers, worker)
    if seed is not None:
        records = records.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
    return records.flat_map(lambda *record: tf.data.Dataset.from_tensors(record).repeat(repeats))
