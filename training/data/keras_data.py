"""Make image data of what Keras' own `fit` takes: datasets, arrays and `PyDataset`s."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vit.models.classes import class_names as class_names_of
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.labels import Classes

_WRONG_LABELS = "Labels must be class numbers from 0 to"

_TAKEN = (
    "what training.image_folder, csv_images, arrays, tfrecords, tfds_images or digits returns; a tf.data.Dataset of "
    "batches (images, labels); a keras.utils.PyDataset; or arrays (images, labels)"
)


def as_image_data(
    model: keras.Model,
    data: Any,
    validation_data: Any = None,
    *,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    class_names: Sequence[str] | None = None,
    classify: bool = True,
    seed: int = 0,
) -> ImageData:
    """Return image data of anything that Keras' `fit` takes, with images as they are.

    Args:
        model: The model that will be trained on it.
        data: Image data, which is returned as it is; a dataset of batches (images, labels); a `keras.utils.PyDataset`;
            or arrays (images, labels), which are shuffled.
        validation_data: Validation data of these kinds, or None.
        batch_size: Images in a batch, for arrays. None means 32, as in Keras.
        steps_per_epoch: Batches in an epoch, for data whose number of batches is not known. Epochs then continue where
            the one before ended.
        class_names: Names of the classes. By default, those of the dataset (`image_dataset_from_directory` adds them),
            or those of the model, or numbers.
        classify: Whether labels are classes: numbers of shape (batch,) or (batch, 1), or one-hot. They then become
            one-hot. Those of arrays may also be names, see `Classes`. Otherwise, labels stay as they are.
        seed: Seed of the order of arrays and of the batches of a `PyDataset`.

    Raises:
        TypeError: If the data is none of these.
        ValueError: If the shapes do not match, or the number of batches is not known.
    """
    if isinstance(data, ImageData):
        given = {"batch_size": batch_size, "steps_per_epoch": steps_per_epoch, "class_names": class_names}
        given["validation_data"] = validation_data
        if wrong := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"Image data has its own {', '.join(wrong)}; set them where you create the data.")
        return data
    batch_size = batch_size or 32
    names = class_names or getattr(data, "class_names", None) or class_names_of(model)
    names = tuple(map(str, names or (range(_scores(model)) if classify else ())))
    if classify:
        data, validation_data = (with_class_numbers(given, names) for given in (data, validation_data))
    source = _opened(data, "data", batch_size, seed, training=True)
    steps = _steps(source, steps_per_epoch)
    change = _one_hot(len(names)) if classify else None
    first = source.epoch(0, 0).take(1)
    with wrong_labels_as_value_errors():
        first = _changed(first, change).get_single_element()
    validation = None
    if validation_data is not None:
        opened = _opened(validation_data, "validation_data", batch_size, seed, training=False)
        _steps(opened, None, "validation_data")
        validation = _changed(opened.epoch(0, 0), change)
    size = source.batch_size or len(keras.tree.flatten(first)[0])
    return ImageData(
        class_names=names,
        input_shape=tuple(first[0].shape[1:]) if tf.is_tensor(first[0]) else (),
        batch_size=size,
        steps_per_epoch=steps,
        train=lambda epoch, skip_steps=0: _changed(source.epoch(epoch, skip_steps), change),
        validation=validation,
        settings={"source": source.kind, "steps_per_epoch": steps, "batch_size": size},
    )


def _scores(model) -> int:
    """Return the number of class scores that a model returns."""
    shape = tuple(model.outputs[0].shape) if getattr(model, "outputs", None) else ()
    if not shape or shape[-1] is None:
        raise ValueError(f"It is not known how many classes {model.name} has; pass class_names=[...].")
    if shape[-1] == 1:
        raise ValueError(
            f"{model.name} returns a single number for each image, so it is not a classifier with a score for each "
            "class. Pass its loss, such as loss='binary_crossentropy' or loss='mse', or compile it with one."
        )
    return shape[-1]


def _changed(batches: tf.data.Dataset, change: Callable | None) -> tf.data.Dataset:
    return batches if change is None else batches.map(change, num_parallel_calls=tf.data.AUTOTUNE)


def with_class_numbers(data: Any, names: Sequence[str]) -> Any:
    """Return arrays with labels as class numbers. Anything else, and labels of mixed images, are returned as they are.

    The labels of a dataset are class numbers already; they are checked when it is read.

    Args:
        data: Arrays (images, labels) with labels as `training.arrays` takes them, or any other data.
        names: Name of each class.

    Raises:
        ValueError: If a label is not one of the classes. The message names the row.
    """
    if not are_arrays(data):
        return data
    images, labels, *weights = data
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == len(names) > 1 and labels.dtype.kind == "f":
        return data
    classes = Classes(labels, names, "arrays", lambda index: f"row {index}")
    return images, classes.numbers, *weights


class _Batches:
    """Batches (images, labels) of each epoch.

    Attributes:
        kind: What they were made of.
        count: Number of batches in an epoch, or None if it is not known or infinite.
        spec: `element_spec` of the batches.
        batch_size: Images in a batch, or None if it is not known.
    """

    def __init__(
        self, kind: str, count: int | None, spec: Any, epoch: Callable[[int, int], tf.data.Dataset], batch_size=None
    ):
        if not isinstance(spec, tuple) or len(spec) not in (2, 3):
            raise ValueError(f"The elements of the data must be batches (images, labels); received {spec}.")
        self.kind, self.count, self.spec, self.epoch = kind, count, spec, epoch
        leading = {part.shape[0] for part in keras.tree.flatten(spec) if getattr(part, "shape", None)}
        self.batch_size = batch_size or (leading.pop() if len(leading) == 1 else None)


def _opened(data, name, batch_size, seed, training) -> _Batches:
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        return _Batches("tf.data", count if count > 0 else None, data.element_spec, lambda _, skip: data.skip(skip))
    if isinstance(data, keras.utils.PyDataset):
        return _of_py_dataset(data, seed, training)
    if are_arrays(data):
        return _of_arrays(data, name, batch_size, seed, training)
    hint = ""
    if hasattr(data, "__array__"):
        hint = " Pass images and labels as a pair: (images, labels)."
    elif isinstance(data, Iterator):
        hint = " A generator can't be started again; wrap it with tf.data.Dataset.from_generator."
    elif isinstance(data, str):
        hint = " Open a folder or file with training.open_data."
    raise TypeError(f"{name} must be {_TAKEN}; received {type(data).__name__}.{hint}")


def are_arrays(data: Any) -> bool:
    """Return whether data is a tuple or list of arrays: images, labels, and possibly weights."""
    return isinstance(data, tuple | list) and len(data) in (2, 3) and all(hasattr(part, "__len__") for part in data)


def _of_arrays(data, name, batch_size, seed, training) -> _Batches:
    parts = tuple(np.asarray(part) for part in data)
    images = len(parts[0])
    if any(part.ndim == 0 or len(part) != images for part in parts) or not images:
        raise ValueError(
            f"{name} must have one label for each image; received the shapes "
            f"{', '.join(str(part.shape) for part in parts)}."
        )
    batch_size = min(batch_size, images)

    def epoch(number, skip):
        order = np.random.default_rng((seed, number)).permutation(images) if training else np.arange(images)
        chosen = tf.data.Dataset.from_tensor_slices(order[skip * batch_size :]).batch(batch_size)
        return chosen.map(lambda places: tuple(tf.gather(part, places) for part in tensors))

    tensors = tuple(map(tf.constant, parts))
    spec = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in tensors)
    return _Batches("arrays", -(-images // batch_size), spec, epoch, batch_size)


def _of_py_dataset(data, seed, training) -> _Batches:
    count = data.num_batches
    first = data[0]
    spec = keras.tree.map_structure(
        lambda part: tf.TensorSpec((None, *part.shape[1:]), tf.as_dtype(part.dtype)),
        tuple(keras.tree.map_structure(np.asarray, part) for part in first),
    )

    def epoch(number, skip):
        order = np.arange(count or 0)
        if training and count:
            order = np.random.default_rng((seed, number)).permutation(count)

        def batches():
            for index, place in enumerate(order[skip:], start=skip + 1):
                batch = tuple(data[int(place)])
                if training and index == len(order):
                    data.on_epoch_end()  # Nobody asks for more after the last batch.
                yield batch

        return tf.data.Dataset.from_generator(batches, output_signature=spec).apply(
            tf.data.experimental.assert_cardinality(len(order) - skip)
        )

    return _Batches("PyDataset", count, spec, epoch, len(keras.tree.flatten(first)[0]))


def _steps(source: _Batches, steps_per_epoch, name="data") -> int:
    """Return the number of batches in an epoch. If it was given, epochs continue where the one before ended."""
    if steps_per_epoch is None:
        if source.count is None:
            argument = "pass steps_per_epoch=..., or " if name == "data" else ""
            raise ValueError(
                f"The number of batches of {name} is not known, or it is endless or empty: {argument}limit it with "
                "dataset.take(batches), or call dataset.apply(tf.data.experimental.assert_cardinality(batches))."
            )
        return source.count
    if steps_per_epoch < 1:
        raise ValueError(f"steps_per_epoch must be at least 1; received {steps_per_epoch}.")
    source.epoch = _Endless(source, int(steps_per_epoch))
    return int(steps_per_epoch)


class _Endless:
    """Epochs of a given number of batches, each of which continues where the one before ended."""

    def __init__(self, source: _Batches, steps: int):
        self._epoch, self._count, self._spec, self._steps = source.epoch, source.count, source.spec, steps
        self._batches: Iterator | None = None
        self._next = 0  # The number of the next batch of the iterator, counted over all epochs.

    def __call__(self, epoch: int, skip: int) -> tf.data.Dataset:
        first = epoch * self._steps + skip

        def batches():
            if self._batches is None or self._next != first:
                self._batches, self._next = self._from(first), first
            for _ in range(self._steps - skip):
                self._next += 1
                yield next(self._batches)

        return tf.data.Dataset.from_generator(batches, output_signature=self._spec).apply(
            tf.data.experimental.assert_cardinality(self._steps - skip)
        )

    def _from(self, first):
        """Yield the batches from a number on, and start again when they end."""
        if self._count is None:
            yield from self._epoch(0, 0).repeat().skip(first)
        number, skip = divmod(first, self._count)
        while True:
            yield from self._epoch(number, skip)
            number, skip = number + 1, 0


def _one_hot(classes: int) -> Callable:
    """Return a function that gives a batch one-hot labels."""

    def change(images, labels, *weights):
        if labels.shape.rank == 2 and labels.shape[1] == classes and classes > 1:
            return images, tf.cast(labels, tf.float32), *weights
        if labels.shape.rank not in (1, 2) or (labels.shape.rank == 2 and labels.shape[1] != 1):
            raise ValueError(
                f"Labels must be class numbers of shape (batch,) or (batch, 1), or one-hot (batch, {classes}); "
                f"received {tuple(labels.shape)}. For other targets, pass loss=... and metrics=[...], or a model that "
                "is compiled with its own loss."
            )
        if not (labels.dtype.is_integer or labels.dtype.is_floating or labels.dtype.is_bool):
            raise ValueError(
                f"Labels must be numbers; received {labels.dtype.name}. training.arrays takes strings, too."
            )
        flat = tf.reshape(labels, (-1,))
        numbers = tf.cast(flat, tf.int64)
        is_class = (numbers >= 0) & (numbers < classes) & (tf.cast(numbers, flat.dtype) == flat)
        message = f"{_WRONG_LABELS} {classes - 1}; a batch has the labels"
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(is_class), [message, flat], summarize=20)]):
            return images, tf.one_hot(numbers, classes), *weights

    return change


@contextlib.contextmanager
def wrong_labels_as_value_errors() -> Iterator[None]:
    """Raise a ValueError if a dataset meets a label that is not a class, in place of TensorFlow's error."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"{_WRONG_LABELS} (\d+); a batch has the labels\]? (\[[^\]]*\])", str(error))
        if found is None:
            raise
        raise ValueError(
            f"{_WRONG_LABELS} {found[1]}; a batch has the labels {found[2]}. Subtract 1 from labels that count from 1. "
            "Targets that are not classes need their own loss: pass loss=... and metrics=[...]."
        ) from None
