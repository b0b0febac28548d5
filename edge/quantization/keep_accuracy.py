"""Keep the layers in float whose quantization costs too much accuracy."""

from __future__ import annotations

import dataclasses
import glob
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_vit.edge.devices.verify import Comparison, Verification
from keras_vit.edge.inputs import input_batches, model_inputs, packed
from keras_vit.edge.quantization.quantize import scheme_of
from keras_vit.edge.quantization.sensitivity import outputs_of, sensitivity
from keras_vit.graph.fusion import fuse
from keras_vit.graph.reading import as_functional
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings
from keras_vit.utils.tables import table

# A few dozen images are enough to find the layers that cost most, and each takes a pass over them.
_IMAGES_TO_RANK_LAYERS = 64

Quantize = Callable[[Mapping[str, str]], keras.Model]


@dataclasses.dataclass(frozen=True)
class AccuracyReport:
    """Which layers `quantize_aware` keeps in float for the sake of the accuracy. It prints as a table.

    Attributes:
        scheme: Name of the scheme.
        images: Number of images that the accuracy was measured on.
        measure: "top-1", the fraction of images that are assigned to their label; or, without labels, "agreement", the
            fraction that are assigned to the same class as by the float model.
        limit: The loss of accuracy that is allowed, in percentage points.
        float_accuracy: The accuracy of the float model.
        before: The accuracy with all layers quantized.
        after: The accuracy with some layers in float.
        kept: Names of the layers in float, in the fused model; the most expensive first.
        latency_ms: What a file takes on this machine, with one thread: the p50 in milliseconds of "float32",
            "quantized" (all layers) and "kept" (some layers in float). Empty if no layer is kept or no runtime is
            installed.
    """

    scheme: str
    images: int
    measure: str
    limit: float
    float_accuracy: float
    before: float
    after: float
    kept: tuple[str, ...]
    latency_ms: dict[str, float]

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        parts = {"float32": ("float32", self.float_accuracy), "quantized": (self.scheme, self.before)}
        if self.kept:
            layers = "1 layer" if len(self.kept) == 1 else f"{len(self.kept)} layers"
            parts["kept"] = f"{self.scheme}, {layers} in float", self.after
        rows = [
            (name, f"{accuracy:.2%}", f"{self.latency_ms[key]:.2f}" if self.latency_ms else "-")
            for key, (name, accuracy) in parts.items()
        ]
        lines = [table(("scheme", self.measure, "p50 ms"), rows)]
        lines += [f"in float: {', '.join(self.kept)}"] if self.kept else []
        timing = ", p50 measured on this machine with one thread" if self.latency_ms else ""
        return "\n".join([*lines, f"{self.images} images, at most {self.limit:g} points lost{timing}"])


def quantize_within(
    model: keras.Model,
    limit: float,
    data: Any,
    labels: np.ndarray | None,
    quantize: Quantize,
    *,
    batch_size: int,
) -> tuple[keras.Model, AccuracyReport]:
    """Quantize a model, with as many of the most sensitive layers in float as the accuracy needs.

    Layers are ranked by `sensitivity`. The number of them that stay in float is doubled until the loss is within the
    limit, and is then found by bisection.

    Args:
        model: A float model.
        limit: The loss of accuracy that is allowed, in percentage points.
        data: Images, as `quantize_aware` takes them, or a dataset of (image, label) batches.
        labels: Class indices (n,) or one-hot labels (n, classes), or None for those of the dataset, if it has any.
        quantize: From overrides to the quantized model.
        batch_size: Images of an array that the model is given at once.

    Returns:
        The quantized model, and what was measured.

    Raises:
        ValueError: The limit is not a number from 0 to 100, the model does not give class scores, or the loss is above
            the limit with all layers but one in float.
    """
    if isinstance(limit, bool) or not isinstance(limit, (int, float, np.number)) or not 0 <= limit <= 100:
        raise ValueError(
            "keep_accuracy is the loss of accuracy that is allowed, in percentage points from 0 to 100; received "
            f"{limit!r}."
        )
    test = _Test(as_functional(model), data, labels, batch_size)
    whole = quantize({})
    before = test.of(whole)
    kept, quantized, after = [], whole, before
    if _loss(before) > limit:
        ranked = _ranked_layers(model, whole, test.images(_IMAGES_TO_RANK_LAYERS))
        kept, quantized, after = _fewest(ranked, limit, quantize, test)
    reference = before.reference_top1
    return quantized, AccuracyReport(
        scheme=scheme_of(whole).name,
        images=before.images,
        measure="agreement" if reference is None else "top-1",
        limit=float(limit),
        float_accuracy=1.0 if reference is None else reference,
        before=_accuracy(before),
        after=_accuracy(after),
        kept=tuple(kept),
        latency_ms=_latencies({"float32": model, "quantized": whole, "kept": quantized}) if kept else {},
    )


class _Test:
    """Images with what the float model gives for them.

    Args:
        model: The float model, a functional one.
        data, labels, batch_size: See `quantize_within`.
    """

    def __init__(self, model: keras.Model, data: Any, labels: np.ndarray | None, batch_size: int):
        self._batches = []
        count = 0
        with native_logs(), no_retracing_warnings():
            for values, own in input_batches(data, model_inputs(model), batch_size, model):
                given = own if labels is None else labels[count : count + len(values[0])]
                count += len(values[0])
                reference = outputs_of(model(packed(model, values), training=False))
                self._batches.append((values, reference, given))
        if labels is not None and len(labels) != count:
            raise ValueError(f"There are {len(labels)} labels for {count} images.")
        scores = self._batches[0][1][0]
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ValueError(
                "keep_accuracy needs a model whose first output is class scores (images, classes); that of "
                f"{model.name!r} has the shape {tuple(scores.shape)}."
            )

    def of(self, quantized: keras.Model) -> Verification:
        """Compare a quantized model with the float model."""
        comparison = Comparison("the quantized model")
        with native_logs(), no_retracing_warnings():
            for values, reference, labels in self._batches:
                outputs = outputs_of(quantized(packed(quantized, values), training=False))
                comparison.add(reference, outputs, labels)
        return comparison.result()

    def images(self, most: int) -> Any:
        """Return the first images, as `sensitivity` takes them."""
        inputs = [np.concatenate(each)[:most] for each in zip(*(values for values, _, _ in self._batches), strict=True)]
        return inputs[0] if len(inputs) == 1 else inputs


def _accuracy(result: Verification) -> float:
    accuracy = result.top1 if result.top1 is not None else result.top1_agreement
    assert accuracy is not None  # The model gives class scores.
    return accuracy


def _loss(result: Verification) -> float:
    """Return the loss of accuracy in percentage points."""
    reference = 1.0 if result.reference_top1 is None else result.reference_top1
    return 100 * (reference - _accuracy(result))


def _fewest(ranked: list[str], limit: float, quantize: Quantize, test: _Test):
    """Return the fewest of the first layers to keep in float, the quantized model, and its comparison."""
    tried: dict[int, tuple[keras.Model, Verification]] = {}

    def fits(count: int) -> bool:
        quantized = quantize({glob.escape(name): "float32" for name in ranked[:count]})
        tried[count] = quantized, test.of(quantized)
        return _loss(tried[count][1]) <= limit

    most = len(ranked) - 1
    below, count = 0, min(1, most)
    while not (count and fits(count)):
        if count == most:
            lost = f"{_loss(tried[count][1]):.2f} points with all layers but {ranked[-1]!r} in float" if count else ""
            raise ValueError(
                f"The accuracy cannot be kept within {limit:g} percentage points: the model loses "
                f"{lost or 'more, and the scheme quantizes a single layer'}. Allow more, or measure on more images."
            )
        below, count = count, min(2 * count, most)
    while count - below > 1:
        middle = (below + count) // 2
        below, count = (below, middle) if fits(middle) else (middle, count)
    return ranked[:count], *tried[count]


def _ranked_layers(model: keras.Model, quantized: keras.Model, images: Any) -> list[str]:
    """Return the layers that can stay in float by the noise that they add to the outputs, the largest first.

    Several operators of an integer form belong to one layer, whose noise is the sum of theirs.
    """
    layers = {layer.name for layer in fuse(model).layers if not isinstance(layer, keras.layers.InputLayer)}
    noise: dict[str, float] = {}
    for row in sensitivity(quantized, images).rows:
        parts = row.layer.split(".")
        names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        layer = next((name for name in names if name in layers), None)
        if layer is not None:
            noise[layer] = noise.get(layer, 0.0) + 10 ** (-row.snr_db / 10)
    return sorted(noise, key=lambda layer: -noise[layer])


def _latencies(models: dict[str, keras.Model]) -> dict[str, float]:
    """Return the p50 in ms of the file of each model, measured in turn; nothing if no runtime is installed."""
    from keras_vit.edge.conversion.export import export
    from keras_vit.edge.devices.benchmark import Benchmarks, benchmark

    with tempfile.TemporaryDirectory() as folder:
        try:
            files = [
                export(each, os.path.join(folder, f"{name}.tflite"), verify=False) for name, each in models.items()
            ]
            results = benchmark(files)
        except ImportError:
            return {}
        assert isinstance(results, Benchmarks)  # Those of several files.
        return {name: result.p50_ms for name, result in zip(models, results, strict=True)}
