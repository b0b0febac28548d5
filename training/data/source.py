"""Where images come from: what a pipeline asks of a source, and the source that has them in a list."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from keras_vit.training.data.decode import Content, read_file
from keras_vit.training.lazy_modules import tf


class Source(Protocol):
    """Labelled images in an order that a seed decides.

    Attributes:
        class_names: One name a class.
        size: Number of images.
        settings: What tells it from other sources, in JSON's types.
    """

    class_names: tuple[str, ...]
    size: int

    @property
    def settings(self) -> dict: ...

    def references(self, seed: int | None, repeats: int, workers: int, worker: int) -> tf.data.Dataset:
        """Return what `read` takes, once for each image of one worker; skipping is cheap.

        Args:
            seed: Decides the order; None is always the same order, for evaluation.
            repeats: Times an image comes in a row.
            workers: Number of workers that share the images.
            worker: Which of them, from 0. Each image is of one worker alone.

        Returns:
            A dataset of tuples of tensors.
        """

    def read(self, *reference) -> tuple[Content, int, str]:
        """Return an image before decoding, its class and its name, for a reference as NumPy values."""


class ListSource:
    """Images that are each at hand: any order is as fast as any other.

    With several workers, a batch is of the same images as with one.

    Args:
        contents: The images.
        labels: Their classes, from 0.
        names: What to call them in messages.
        class_names: One name a class.
        origin: Whence they come, for `settings`.

    Raises:
        ValueError: There are no images.
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
        """Return the source itself.

        Raises:
            ValueError: A class has no image.
        """
        empty = [self.class_names[label] for label in sorted(set(range(len(self.class_names))) - set(self.labels))]
        if empty:
            raise ValueError(
                f"There is no image of {len(empty)} classes in {self.origin}: {', '.join(empty[:10])}; leave them out."
            )
        return self

    def split(self, fraction: float) -> tuple[ListSource, ListSource]:
        """Split into two sources, the second with a part of each class, at least one image; always the same split.

        Raises:
            ValueError: The fraction is not between 0 and 1, or a class has only one image.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"validation_fraction is between 0 and 1; received {fraction}.")
        rng = np.random.default_rng(0)
        second = np.zeros(self.size, bool)
        for label, name in enumerate(self.class_names):
            own = rng.permutation(np.flatnonzero(self.labels == label))
            if len(own) < 2:
                raise ValueError(f"Class {name} has a single image, which can't be both for training and validation.")
            second[own[: min(max(1, round(fraction * len(own))), len(own) - 1)]] = True
        return self._part(~second, "training part"), self._part(second, "validation part")

    def _part(self, chosen, name):
        indices = np.flatnonzero(chosen)
        contents, names = ([values[index] for index in indices] for values in (self.contents, self.names))
        return ListSource(contents, self.labels[indices], names, self.class_names, f"{self.origin}, {name}")


def in_memory(source: Source) -> ListSource:
    """Return the source with all its files in memory."""
    references = source.references(None, repeats=1, workers=1, worker=0)
    found, labels, names = zip(*(source.read(*reference) for reference in references.as_numpy_iterator()), strict=True)
    contents = [read_file(content) if isinstance(content, str) else content for content in found]
    return ListSource(contents, labels, names, source.class_names, source.settings["source"])


def drawn_from_a_stream(
    records: tf.data.Dataset, buffer: int, seed: int | None, repeats: int, workers: int, worker: int
) -> tf.data.Dataset:
    """Return the references of a source that can only be read from its beginning.

    Args:
        records: Tuples of tensors.
        buffer: Records from which the next one is drawn.
        seed: See `Source.references`, as the following.
        repeats: Times a record comes in a row.
        workers: 1 where the records are of one worker already.
        worker: Which of them.
    """
    records = records.shard(workers, worker)
    if seed is not None:
        records = records.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
    return records.flat_map(lambda *record: tf.data.Dataset.from_tensors(record).repeat(repeats))
