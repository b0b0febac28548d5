"""Evaluate a classifier on labeled images: overall accuracy, accuracy per class, and confusion matrix."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vit.inspection import figures
from keras_vit.models.classes import class_names as class_names_of
from keras_vit.models.model_images import check_range, prepared_for
from keras_vit.training.data.for_evaluation import EvaluationData
from keras_vit.training.data.image_data import ImageData, places_of
from keras_vit.training.data.keras_data import are_arrays, with_class_numbers
from keras_vit.utils.files import replacing
from keras_vit.utils.tables import table

_SHOWN = 10  # The number of classes to print.
_BATCH_SIZE = 64  # Of arrays.


class ClassAccuracy(NamedTuple):
    """The accuracy for the images of one class.

    Attributes:
        name: The name of the class.
        images: The number of images of the class.
        accuracy: The fraction of these images that were classified correctly, or None if there are no images.
    """

    name: str
    images: int
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a classifier on labeled images.

    Attributes:
        class_names: The names of the classes.
        confusion: The confusion matrix: the number of images by true class (rows) and predicted class (columns), int64
            of shape (classes, classes).
        top5_images: The number of images whose class had one of the five highest scores.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    top5_images: int

    @property
    def images(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    @property
    def top1(self) -> float:
        """The fraction of images whose class had the highest score."""
        return float(np.trace(self.confusion) / self.images)

    @property
    def top5(self) -> float:
        """The fraction of images whose class had one of the five highest scores."""
        return self.top5_images / self.images

    @property
    def per_class(self) -> list[ClassAccuracy]:
        """The accuracy of each class, in the order of `class_names`."""
        return [
            ClassAccuracy(name, int(images), float(right / images) if images else None)
            for name, images, right in zip(
                self.class_names, self.confusion.sum(axis=1), np.diag(self.confusion), strict=True
            )
        ]

    def to_dict(self) -> dict:
        """Return the results as a JSON-serializable dictionary.

        The confusion matrix is given as a list of its nonzero cells: [true class, predicted class, images].
        """
        return {
            "images": self.images,
            "top1": self.top1,
            "top5": self.top5,
            "per_class": [entry._asdict() for entry in self.per_class],
            "confusion": [[*map(int, cell), int(self.confusion[tuple(cell)])] for cell in np.argwhere(self.confusion)],
        }

    def save(self, folder: str | Path) -> Path:
        """Write evaluation.json, per_class.csv and confusion.png to a folder, and return its path.

        Raises:
            ImportError: If matplotlib is not installed.
            OSError: If the folder can't be written.
        """
        folder = Path(folder)
        figure = figures.confusion_figure(self.confusion, self.class_names)
        with replacing(folder / "evaluation.json") as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        with (
            replacing(folder / "per_class.csv") as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            rows = csv.writer(file)
            rows.writerow(ClassAccuracy._fields)
            rows.writerows(self.per_class)
        with replacing(folder / "confusion.png") as partial:
            figure.savefig(partial, dpi=150)
        return folder

    def __str__(self) -> str:
        def percent(part: float | None) -> str:
            return "-" if part is None else f"{part:.2%}"

        def rank(entry: ClassAccuracy) -> tuple[bool, float]:
            return entry.accuracy is None, entry.accuracy or 0.0

        worst = sorted(self.per_class, key=rank)[:_SHOWN]
        rows = [("all classes", str(self.images), percent(self.top1), percent(self.top5))]
        rows += [(entry.name, str(entry.images), percent(entry.accuracy), "-") for entry in worst]
        hidden = len(self.class_names) - len(worst)
        note = f"\n{hidden} more classes, none of them with a lower accuracy" if hidden else ""
        return table(("", "images", "top-1", "top-5"), rows) + note


def evaluate(
    model: keras.Model,
    data: tf.data.Dataset | ImageData | EvaluationData | tuple[np.ndarray, np.ndarray],
    class_names: Sequence[str] | None = None,
    *,
    model_class_names: Sequence[str] | None = None,
) -> Evaluation:
    """Evaluate a classifier on labeled images, on one device.

    The classes of the data are matched with those of the model by name, in whatever order they are.

    Args:
        model: A model that returns class scores, logits or probabilities, of shape (batch, classes). It need not be
            compiled. If it has several outputs, such as a DeiT for distillation, their mean is the prediction.
        data: What `training.evaluation_data` returns. Or image data, whose test images are used, or the validation
            images if it has none. Or a dataset of batches (images, labels) that contain each image once, whose further
            elements, such as sample weights, are ignored. Or arrays (images, labels). Images of a dataset of your own
            or of arrays are used as they are; others are normalized as the model takes them. The labels are class
            numbers of shape (batch,) or (batch, 1), or have shape (batch, classes). In the latter case they are one-hot
            or mixed, and the largest element is the true class. The labels of arrays may also be names, by the same
            rule as in `training.arrays` and `fit`.
        class_names: The names of the classes of the labels. By default, those of the data, or of the model.
        model_class_names: The names of the classes in the order of the scores. By default, those of the model (see
            `keras_vit.class_names`), or those of the data.

    Returns:
        The accuracies and the confusion matrix, for the classes of the model.

    Raises:
        TypeError: If the data is none of these, or its elements are not pairs.
        ValueError: If there are no images, the dataset is infinite, the shapes of images, labels, scores and names
            don't match, the model lacks a class of the data or takes images in another range, a label is not a class,
            or a score is NaN or infinite.
    """
    scored = class_names_of(model) if model_class_names is None else tuple(map(str, model_class_names))
    dataset, own_names = _opened(data, model, class_names or scored)
    names = tuple(map(str, class_names or own_names or scored or _numbered(model)))
    places = list(range(len(names))) if scored is None else places_of(names, scored, "the data")
    scored = names if scored is None else scored
    _check(model, dataset, len(scored))

    @tf.function(reduce_retracing=True)
    def scores_of(images):
        outputs = keras.tree.flatten(model(images, training=False))
        return sum(keras.ops.cast(output, "float32") for output in outputs) / len(outputs)

    confusion = np.zeros((len(scored), len(scored)), "int64")
    top5_images = 0
    for step, (images, labels, *_) in enumerate(dataset):
        if step == 0:
            check_range(images.numpy(), model)
        scores = scores_of(images).numpy()
        if not np.isfinite(scores).all():
            raise ValueError(f"{model.name} returns scores that are NaN or infinite.")
        true = np.array(places)[_true_classes(labels.numpy(), len(scores), len(names))]
        # Of equal scores, the first one counts as the highest, as in argmax.
        ranking = np.argsort(-scores, axis=1, kind="stable")
        np.add.at(confusion, (true, ranking[:, 0]), 1)
        top5_images += int((ranking[:, :5] == true[:, None]).sum())
    if not confusion.any():
        raise ValueError("The dataset has no images.")
    return Evaluation(scored, confusion, top5_images)


def _opened(data, model, names) -> tuple[tf.data.Dataset, Sequence[str] | None]:
    """Return the batches of the data, and the names of its classes if it has any."""
    if isinstance(data, EvaluationData):
        return prepared_for(data.batches, model), data.class_names
    if isinstance(data, ImageData):
        data = data.for_model(model)
        return data.validation if data.test is None else data.test, data.class_names
    if are_arrays(data):
        parts = tuple(map(np.asarray, with_class_numbers(data, tuple(map(str, names or _numbered(model))))))
        if len({len(part) for part in parts}) > 1:
            lengths = " and ".join(str(len(part)) for part in parts)
            raise ValueError(f"There must be one label for each image; received {lengths}.")
        return tf.data.Dataset.from_tensor_slices(parts).batch(_BATCH_SIZE), None
    # `keras.utils.image_dataset_from_directory` adds the names to its dataset.
    return prepared_for(data, model), getattr(data, "class_names", None)


def _numbered(model):
    return [str(number) for number in range(model.outputs[0].shape[-1])]


def _check(model, dataset, classes):
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            "data must be training.evaluation_data(...), image data, a tf.data.Dataset of batches (images, labels) or "
            f"arrays (images, labels); received {type(dataset).__name__}."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The dataset is infinite; limit it with .take(batches).")
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2 or not all(isinstance(part, tf.TensorSpec) for part in spec[:2]):
        raise TypeError(f"The dataset's elements must be batches (images, labels); received {spec}.")
    if len(model.inputs) != 1 or not spec[0].shape.is_compatible_with(model.inputs[0].shape):
        taken = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise ValueError(f"{model.name} takes {taken}, but the dataset has images {tuple(spec[0].shape)}.")
    if any(len(output.shape) != 2 or output.shape[1] != classes for output in model.outputs):
        given = ", ".join(str(tuple(tensor.shape)) for tensor in model.outputs)
        raise ValueError(
            f"There are {classes} class names, so {model.name} must return (batch, {classes}); it returns {given}."
        )


def _true_classes(labels, images, classes):
    if labels.shape == (images, classes) and not (classes == 1 and labels.dtype.kind in "iu"):
        if not np.isfinite(labels).all() or not (labels.max(axis=1) > 0).all():
            raise ValueError("A row of the one-hot or mixed labels has no class: none of its elements is above 0.")
        return labels.argmax(axis=1)
    if labels.shape not in ((images,), (images, 1)):
        raise ValueError(
            f"Labels of {images} images must be ({images},) class numbers or ({images}, {classes}) one-hot; "
            f"received {labels.shape}."
        )
    labels = labels.reshape(images)
    outside = labels[(labels < 0) | (labels >= classes) | (labels % 1 != 0)]
    if outside.size:
        raise ValueError(f"Class numbers must be from 0 to {classes - 1}; received the label {outside[0]}.")
    return labels.astype("int64")
