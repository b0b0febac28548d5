"""Proves that a .tflite file gives a model's answers."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit.edge.devices.interpreter import Interpreter
from keras_vit.edge.images import image_batches
from keras_vit.utils.tables import table

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Verification:
    """How far a file's outputs lie from its model's.

    Attributes:
        file: the .tflite file.
        images: how many images were compared.
        max_abs_error: the largest difference of any output.
        max_relative_error: that difference over the largest absolute output of the model.
        snr_db: signal to noise over all outputs, 10 log10(sum of model^2 / sum of error^2); inf when equal.
        top1_agreement: fraction of images whose class is the same; None when the first output is not
            (N, classes) with two classes or more.
        top1: fraction of images whose class in the file is their label; None without labels.
        reference_top1: the same for the model.
    """

    file: str
    images: int
    max_abs_error: float
    max_relative_error: float
    snr_db: float
    top1_agreement: float | None
    top1: float | None
    reference_top1: float | None

    def to_dict(self) -> dict:
        """The attributes, ready for JSON: a number that is not finite becomes None."""
        values = dataclasses.asdict(self)
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }

    def __str__(self) -> str:
        def percent(fraction: float | None) -> str:
            return "-" if fraction is None else f"{fraction:.2%}"

        rows = [
            ("images", str(self.images)),
            ("largest error", f"{self.max_abs_error:.3g}"),
            ("relative to the largest output", f"{self.max_relative_error:.3g}"),
            ("signal to noise, dB", f"{self.snr_db:.1f}"),
            ("top-1 agreement", percent(self.top1_agreement)),
        ]
        if self.top1 is not None:
            rows += [
                ("top-1 of the file", percent(self.top1)),
                ("top-1 of the model", percent(self.reference_top1)),
            ]
        return table(("verify", os.path.basename(self.file)), rows)


def verify(
    model: keras.Model | str | os.PathLike,
    file: str | os.PathLike,
    images: Any,
    *,
    batch: int = 32,
    labels: np.ndarray | None = None,
) -> Verification:
    """Runs images through a model and through a .tflite file, and compares what comes out.

    Outputs are compared in the order of the model's outputs, which is that of the file's signature. What the
    file takes or gives in int8 or uint8 is converted by the tensor's own scale and zero point.

    Args:
        model: the reference: a Keras model, run in inference mode, or another .tflite file.
        file: the .tflite file.
        images: a NumPy array (N, H, W, C), or a tf.data dataset of image batches or (image, label) batches.
        batch: images of an array that the model is given at once; a file runs with the batch it was made for.
        labels: class indices (N,) or one-hot (N, classes); those of the dataset when None.

    Raises:
        TypeError, ValueError: the images are empty, not finite, or of the wrong shape or type; model and file
            do not take the same images or give the same outputs; labels do not fit; the file is not usable.
        OSError: a file is missing or cannot be read.
        ImportError: no TensorFlow Lite runtime is installed; the message has the pip lines.
        RuntimeError: a file crashed the runtime.
    """
    with contextlib.ExitStack() as stack:
        candidate = _open(file, stack)
        shape = _image_shape(candidate)
        if isinstance(model, (str, os.PathLike)):
            reference = _open(model, stack)
            expected, run = _image_shape(reference), reference.run
        else:
            run, expected = _inference(model), tuple(model.input_shape[1:])
        if not _same_shape(shape, expected):
            raise ValueError(f"{candidate.file} takes images of shape {shape}; the model takes {expected}.")

        comparison = _Comparison(candidate.file)
        for pixels, dataset_labels in image_batches(images, shape, batch):
            first = comparison.images
            given = dataset_labels if labels is None else labels[first : first + len(pixels)]
            comparison.add(run(pixels), candidate.run(pixels), given)
    if labels is not None and len(labels) != comparison.images:
        raise ValueError(f"There are {len(labels)} labels for {comparison.images} images.")
    return comparison.result()


def _open(file: str | os.PathLike, stack: contextlib.ExitStack) -> Interpreter:
    interpreter = stack.enter_context(Interpreter(file))
    interpreter.allocate()
    return interpreter


def _image_shape(interpreter: Interpreter) -> tuple[int | None, ...]:
    """(H, W, C) of the one input of a file, None for a size that is free."""
    shapes = [detail["shape"] for detail in interpreter.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ValueError(f"{interpreter.file} takes inputs of shape {shapes}; one batch (N, H, W, C) is needed.")
    return tuple(None if size == -1 else size for size in shapes[0][1:])


def _same_shape(a: tuple[int | None, ...], b: tuple[int | None, ...]) -> bool:
    return len(a) == len(b) and all(x == y or None in (x, y) for x, y in zip(a, b, strict=True))


def _inference(model: keras.Model) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The model as a function from images to a list of float32 outputs."""
    import keras

    if not isinstance(model, keras.Model):
        raise TypeError(f"model is a {type(model).__name__}; it must be a keras.Model or a path of a .tflite file.")

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        outputs = keras.tree.flatten(model(pixels, training=False))
        return [keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")) for output in outputs]

    return run


class _Comparison:
    """Sums over batches."""

    def __init__(self, file: str):
        self.file = file
        self.images = 0
        self.max_error = self.max_output = np.float64(0)
        self.signal = self.noise = np.float64(0)
        self.agreeing: int | None = 0
        self.labelled = self.right = self.reference_right = 0

    def add(self, reference: list[np.ndarray], candidate: list[np.ndarray], labels: Any) -> None:
        shapes, expected = [a.shape for a in candidate], [a.shape for a in reference]
        if shapes != expected:
            raise ValueError(f"{self.file} gives outputs of shape {shapes}; the model gives {expected}.")
        for wanted, given in zip(reference, candidate, strict=True):
            wanted, given = wanted.astype(np.float64), given.astype(np.float64)
            error = given - wanted
            # np.maximum, unlike max, keeps a NaN.
            self.max_error = np.maximum(self.max_error, np.abs(error).max())
            self.max_output = np.maximum(self.max_output, np.abs(wanted).max())
            self.signal += np.square(wanted).sum()
            self.noise += np.square(error).sum()
        self.images += len(reference[0])
        self._add_classes(reference[0], candidate[0], labels)

    def _add_classes(self, reference: np.ndarray, candidate: np.ndarray, labels: Any) -> None:
        if reference.ndim != 2 or reference.shape[1] < 2:
            if labels is not None:
                raise ValueError(f"Labels need an output (N, classes); {self.file} gives {candidate.shape}.")
            self.agreeing = None
            return
        wanted, given = reference.argmax(-1), candidate.argmax(-1)
        self.agreeing += int((wanted == given).sum())
        if labels is not None:
            truth = _classes(labels, len(given))
            self.labelled += len(truth)
            self.right += int((given == truth).sum())
            self.reference_right += int((wanted == truth).sum())

    def result(self) -> Verification:
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = self.max_error / self.max_output if self.max_error else self.max_error
            snr = 10 * np.log10(self.signal / self.noise) if self.noise else np.inf
        return Verification(
            file=self.file,
            images=self.images,
            max_abs_error=float(self.max_error),
            max_relative_error=float(relative),
            snr_db=float(snr),
            top1_agreement=None if self.agreeing is None else self.agreeing / self.images,
            top1=self.right / self.labelled if self.labelled else None,
            reference_top1=self.reference_right / self.labelled if self.labelled else None,
        )


def _classes(labels: Any, count: int) -> np.ndarray:
    """Class indices (N,) of labels (N,), (N, 1) or one-hot (N, classes)."""
    labels = np.asarray(labels)
    if labels.ndim == 2:
        labels = labels.argmax(-1) if labels.shape[1] > 1 else labels[:, 0]
    if labels.shape != (count,):
        raise ValueError(f"Labels must be (N,) or (N, classes), one an image; received {labels.shape} for {count}.")
    return labels
