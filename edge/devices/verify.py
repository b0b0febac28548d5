"""Verify that a .tflite or .onnx file gives the outputs of a model."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit.edge.devices.computation import Computation, matching, of_file, of_model
from keras_vit.edge.devices.device import find_device
from keras_vit.edge.devices.layer_by_layer import LayerDifference, Parting, layer_differences, parting
from keras_vit.edge.devices.opening import open_file
from keras_vit.edge.files.info import read_description
from keras_vit.edge.inputs import input_batches
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings
from keras_vit.utils.tables import table

if TYPE_CHECKING:
    import keras

    from keras_vit.edge.files.description import ImagePreprocessing

# How many images the layers are compared on. The outputs of all layers are kept for each.
_LAYER_IMAGES = 4


@dataclasses.dataclass(frozen=True)
class Verification:
    """The differences between the outputs of a file and of its model. It prints as a table.

    Attributes:
        file: The file.
        images: The number of images that were compared.
        device: The device that ran the file.
        max_abs_error: The largest absolute difference of any output value.
        max_relative_error: The largest absolute difference divided by the largest absolute output of the model.
        snr_db: The signal-to-noise ratio over all outputs in dB, 10 log10(sum of model^2 / sum of error^2); infinite if
            they are equal.
        top1_agreement: The fraction of images that file and model assign to the same class; None if the first output is
            not of shape (N, classes) with at least two classes.
        top1: The fraction of images that the file assigns to their label; None without labels.
        reference_top1: The fraction of images that the model assigns to their label; None without labels.
        layers: How far the outputs of each layer are apart, in order; None if they were not asked for.
    """

    file: str
    images: int
    device: str
    max_abs_error: float
    max_relative_error: float
    snr_db: float
    top1_agreement: float | None
    top1: float | None
    reference_top1: float | None
    layers: list[LayerDifference] | None = None

    @property
    def parts_at(self) -> Parting | None:
        """The layer in which most is lost, if one loses 10 dB and falls below 20 dB; None without layers."""
        return parting(self.layers or ())

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold; a number that is not finite becomes None."""
        values = _finite(dataclasses.asdict(self))
        if self.layers is not None:
            values["layers"] = [_finite(layer) for layer in values["layers"]]
            values["parts_at"] = None if self.parts_at is None else _finite(dataclasses.asdict(self.parts_at))
        return values

    def __str__(self) -> str:
        def percent(fraction: float | None) -> str:
            return "-" if fraction is None else f"{fraction:.2%}"

        rows = [
            *([] if self.device == "local" else [("device", self.device)]),
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
        text = table(("verify", os.path.basename(self.file)), rows)
        if self.layers is None:
            return text
        layers = [(row.layer, f"{row.snr_db:.1f}", f"{row.max_abs_error:.3g}") for row in self.layers]
        where = f"They part at {self.parts_at}." if self.parts_at else "No layer falls below 20 dB."
        return "\n\n".join([text, table(("layer", "signal to noise, dB", "largest error"), layers), where])


def _finite(values: dict) -> dict:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def verify(
    model: keras.Model | str | os.PathLike,
    file: keras.Model | str | os.PathLike,
    images: Any,
    *,
    batch_size: int = 32,
    labels: np.ndarray | None = None,
    device: str = "local",
    per_layer: bool = False,
) -> Verification:
    """Run images through two models or files, such as a model and its .tflite or .onnx file, and compare the outputs.

    Several inputs and the outputs of a model that returns a dictionary are paired by their names in the file's
    signature; other outputs are compared in the order of the model's. Inputs and outputs of the file in int8 or uint8
    are converted with their own scale and zero point. Files that `export` wrote say how they take images; a model or
    file that takes them otherwise is refused.

    Args:
        model: The reference: a functional or sequential Keras model, which is run in inference mode, or a .tflite or
            .onnx file.
        file: What is compared with it, likewise.
        images: A NumPy array (N, H, W, C) of images as the model takes them, or a tf.data dataset of image batches or
            (image, label) batches. Datasets of `keras_vit.training` are normalized for the model. For a model of
            several inputs, a dictionary with an array for each input by its name, a list of arrays in the order of the
            inputs, or a dataset of batches of these.
        batch_size: Images of an array that the model is given at once. A file runs with the batch size that it was
            exported with.
        labels: Class indices (N,) or one-hot labels (N, classes). The default is the labels of the dataset, if it has
            any.
        device: The device that runs the file: "local" for this machine, or what `keras-vit devices` lists. A reference
            that is a file runs on this machine.
        per_layer: Whether to compare the outputs of the layers too, on the first four images. A file has those of some
            layers only, since converters join layers, and computes them here without the kernels that do not keep them,
            such as XNNPACK's. Float models are fused first.

    Returns:
        The differences over all images.

    Raises:
        TypeError, ValueError: There are no images, or they are not finite, or have the wrong shape, type or range;
            model and file do not take the same images or give the same outputs, or not as the file says; the labels do
            not fit; the file is not usable; or another device shall run a model.
        OSError: A file is missing or cannot be read, or the device cannot be reached.
        ImportError: No runtime for the file is installed. The message gives the pip commands.
        RuntimeError: A file crashed the runtime.
    """
    if not find_device(device).computes_outputs:
        raise ValueError(f"{device} gives no outputs, because benchmark_model only measures; verify on another device.")
    with contextlib.ExitStack() as stack:
        candidate, reference = _open(file, stack, device), _open(model, stack)
        _check_preprocessing(model, file)
        keras_model = next((each for each in (model, file) if not _is_path(each)), None)
        candidate = matching(candidate, reference)
        comparison = Comparison(candidate.name, device)
        first_values: list[np.ndarray] = []
        for values, dataset_labels in input_batches(images, reference.inputs, batch_size, keras_model):
            first = comparison.images
            given = dataset_labels if labels is None else labels[first : first + len(values[0])]
            comparison.add(reference.run(values), candidate.run(values), given)
            first_values = first_values or [value[:_LAYER_IMAGES] for value in values]
        result = comparison.result()
        if per_layer:
            named = dict(zip((name for name, _ in reference.inputs), first_values, strict=True))
            result = dataclasses.replace(result, layers=layer_differences(model, file, named))
    if labels is not None and len(labels) != comparison.images:
        raise ValueError(f"There are {len(labels)} labels for {comparison.images} images.")
    return result


def _is_path(each: Any) -> bool:
    return isinstance(each, (str, os.PathLike))


def _open(each: Any, stack: contextlib.ExitStack, device: str = "local") -> Computation:
    """Return the computation of a model, or of a file on a device, which is open until the stack is left."""
    if not _is_path(each):
        computation = of_model(each)
        if device != "local":
            raise ValueError(f"A device runs files; received device={device!r} for a model.")
        stack.enter_context(native_logs())
        stack.enter_context(no_retracing_warnings())
        return computation
    interpreter = stack.enter_context(open_file(each, device=device))
    interpreter.allocate()
    return of_file(interpreter)


def _check_preprocessing(one: Any, other: Any) -> None:
    """Check that two models or files do not say that they take images differently.

    Raises:
        ValueError: They do. The message says how each of them takes images.
    """
    known = [(each, said) for each in (one, other) if (said := _preprocessing(each)) is not None]
    if len(known) == 2 and not known[0][1].agrees_with(known[1][1]):
        first, second = (f"{os.fspath(each) if _is_path(each) else 'the model'} takes {said}" for each, said in known)
        raise ValueError(f"{second[0].upper()}{second[1:]}, but {first}: they were not made from the same model.")


def _preprocessing(each: Any) -> ImagePreprocessing | None:
    if _is_path(each):
        description = read_description(each)
        return None if description is None else description.preprocessing
    from keras_vit.edge.conversion.description import image_preprocessing  # Imports Keras, which files do not need.

    return image_preprocessing(each)


class Comparison:
    """The comparison of a file with its model so far: sums over batches.

    Args:
        file: What messages call the file.
        device: The device that runs it.
    """

    def __init__(self, file: str, device: str = "local"):
        self.file, self.device = file, device
        self.images = 0
        self.max_error = self.max_output = np.float64(0)
        self.signal = self.noise = np.float64(0)
        self.agreeing: int | None = 0
        self.labeled = self.right = self.reference_right = 0

    def add(self, reference: list[np.ndarray], candidate: list[np.ndarray], labels: Any) -> None:
        """Add a batch: the outputs of model and file in the same order, and the labels or None."""
        shapes, expected = [a.shape for a in candidate], [a.shape for a in reference]
        if shapes != expected:
            raise ValueError(f"{self.file} gives outputs of shape {shapes}; the model gives {expected}.")
        for wanted, given in zip(reference, candidate, strict=True):
            wanted, given = wanted.astype(np.float64), given.astype(np.float64)
            error = given - wanted
            # Unlike max, np.maximum keeps a NaN.
            self.max_error = np.maximum(self.max_error, np.abs(error).max())
            self.max_output = np.maximum(self.max_output, np.abs(wanted).max())
            self.signal += np.square(wanted).sum()
            self.noise += np.square(error).sum()
        self.images += len(reference[0])
        self._add_classes(reference[0], candidate[0], labels)

    def _add_classes(self, reference: np.ndarray, candidate: np.ndarray, labels: Any) -> None:
        if reference.ndim != 2 or reference.shape[1] < 2:
            if labels is not None:
                raise ValueError(f"Labels need an output of shape (N, classes); {self.file} gives {candidate.shape}.")
            self.agreeing = None
            return
        wanted, given = reference.argmax(-1), candidate.argmax(-1)
        self.agreeing = (self.agreeing or 0) + int((wanted == given).sum())
        if labels is not None:
            truth = _classes(labels, len(given))
            self.labeled += len(truth)
            self.right += int((given == truth).sum())
            self.reference_right += int((wanted == truth).sum())

    def result(self) -> Verification:
        """Return the differences over all batches."""
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = self.max_error / self.max_output if self.max_error else self.max_error
            snr = 10 * np.log10(self.signal / self.noise) if self.noise else np.inf
        return Verification(
            file=self.file,
            images=self.images,
            device=self.device,
            max_abs_error=float(self.max_error),
            max_relative_error=float(relative),
            snr_db=float(snr),
            top1_agreement=None if self.agreeing is None else self.agreeing / self.images,
            top1=self.right / self.labeled if self.labeled else None,
            reference_top1=self.reference_right / self.labeled if self.labeled else None,
        )


def _classes(labels: Any, count: int) -> np.ndarray:
    """Return the class indices (N,) of labels (N,), (N, 1), or one-hot (N, classes)."""
    labels = np.asarray(labels)
    if labels.ndim == 2:
        labels = labels.argmax(-1) if labels.shape[1] > 1 else labels[:, 0]
    if labels.shape != (count,):
        raise ValueError(
            f"Labels must be of shape (N,) or (N, classes), one per image; received {labels.shape} for {count} images."
        )
    return labels
