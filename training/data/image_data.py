"""Define the image data that `keras_vit.training.fit` trains on."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.training.data.notes import examples, note
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
        numbered: Function that returns `train` with the number of each image in place of its class, so that labels have
            the shape (batch, training images). None if images have no numbers, as in a stream.
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
    numbered: Callable[[], Callable[..., tf.data.Dataset]] | None = None
    prepare: Callable[[keras.Model], ImageData] | None = None
    depends_on_model: bool = False
    created: dict | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.created is None:
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
        return {name: value for name, value in values.items() if value is not (self.created or {}).get(name)}

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

    def in_order(self, class_names: Sequence[str]) -> ImageData:
        """Return this data with the columns of its labels in the order of other class names, matched by name.

        Args:
            class_names: The names, such as those of a trained model. They may include classes that the data lacks.

        Raises:
            ValueError: If a class of the data is not among them.
        """
        class_names = tuple(map(str, class_names))
        if class_names == self.class_names:
            return self
        places = places_of(self.class_names, class_names, "the data")
        matrix = np.eye(len(class_names), dtype="float32")[places]

        def ordered(batches: tf.data.Dataset | None) -> tf.data.Dataset | None:
            return batches and batches.map(lambda images, labels: (images, tf.linalg.matmul(labels, matrix)))

        return dataclasses.replace(
            self,
            class_names=class_names,
            train=_mapped(self.train, ordered),
            validation=ordered(self.validation),
            test=ordered(self.test),
            test_labels=None if self.test_labels is None else np.array(places)[self.test_labels],
            prepare=self.prepare and (lambda model: self.for_model(model).in_order(class_names)),
            created=None,
        )

    def weighted(self, class_weight: Mapping[int | str, float]) -> ImageData:
        """Return this data with a weight for each training image, which `fit` multiplies its loss by.

        Args:
            class_weight: Weight of each class, by its name or number. Other classes have the weight 1. The weight of a
                mixed label is the mean of the weights of its classes.

        Raises:
            ValueError: If there is no such class, or a weight is negative.
        """
        weights = np.ones(self.classes, "float32")
        for key, weight in class_weight.items():
            place = self.class_names.index(str(key)) if str(key) in self.class_names else key
            if not isinstance(place, numbers.Integral) or not 0 <= place < self.classes or weight < 0:
                raise ValueError(
                    f"class_weight must give a weight of at least 0 for names or numbers of the {self.classes} classes "
                    f"{', '.join(self.class_names[:10])}; received {key!r}: {weight!r}."
                )
            weights[int(place)] = weight

        def with_weights(batches: tf.data.Dataset) -> tf.data.Dataset:
            return batches.map(lambda images, labels: (images, labels, tf.linalg.matvec(labels, weights)))

        return dataclasses.replace(
            self,
            train=_mapped(self.train, with_weights),
            prepare=self.prepare and (lambda model: self.for_model(model).weighted(class_weight)),
            created=None,
        )


def places_of(names: Sequence[str], among: Sequence[str], where: str) -> list[int]:
    """Return the place of each class name among other class names.

    Names that only count from 0 name nothing; they are matched by place with other names of the same number.

    Args:
        names: Class names, such as those of data.
        among: The names to find them among, such as those of a model.
        where: What has the names, in messages.

    Raises:
        ValueError: If a name is not among them.
    """
    unknown = [name for name in names if name not in among]
    if not unknown:
        return [list(among).index(name) for name in names]
    if len(names) == len(among) and (only_count(names) or only_count(among)):
        note(f"{where}: the classes {examples(list(names))} are matched with {examples(list(among))} by their order.")
        return list(range(len(names)))
    raise ValueError(unknown_classes(where, unknown, among))


def unknown_classes(where: str, unknown: Sequence[str], known: Sequence[str]) -> str:
    """Return the message for class names that are not among the known ones."""
    by_case = {name.casefold(): name for name in known}
    pairs = [f"{name} is written {by_case[name.casefold()]}" for name in unknown if name.casefold() in by_case]
    return (
        f"{where} has {'the class' if len(unknown) == 1 else 'the classes'} {examples(list(unknown), 10)}, not among "
        f"the {len(known)} known classes: {examples(list(known), 10)}."
        + (f" There, {'; '.join(pairs[:3])}." if pairs else "")
    )


def only_count(names: Sequence[str]) -> bool:
    """Return whether class names are only the numbers from 0, in this order, as those of unnamed classes."""
    return list(names) == list(map(str, range(len(names))))


def _mapped(train, change):
    """Return the function of the training batches of an epoch with a change; it takes the same arguments."""

    def changed(*args, **kwargs):
        return change(train(*args, **kwargs))

    # Whether a function can give each worker its part is asked of its parameters.
    vars(changed)["__signature__"] = inspect.signature(train)
    return changed


def _parts():
    """Return the fields of `ImageData` that describe the images."""
    return [
        part for part in dataclasses.fields(ImageData) if part.name not in ("prepare", "depends_on_model", "created")
    ]
