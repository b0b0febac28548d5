"""What the quantization of each layer costs, by quantizing one layer at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_vit.edge.devices.verify import Comparison
from keras_vit.edge.inputs import input_batches, model_inputs, packed
from keras_vit.edge.quantization.integer_layers import AddConstant, MultiplyConstant
from keras_vit.edge.quantization.quantize import float_model, is_quantized, plan_of, quantize_aware, scheme_of
from keras_vit.edge.quantization.schemes import Scheme
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings
from keras_vit.utils.tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What the quantization of one layer costs.

    Attributes:
        layer: Name of the layer in the fused model, `keras_vit.fuse(model)`.
        snr_db: Signal-to-noise ratio in dB at the model's outputs if only this layer is quantized: its kernel, what it
            takes and what it gives, without bias correction. Infinite if the outputs stay equal.
        top1: Fraction of images that the model then assigns to their label; None without labels.
    """

    layer: str
    snr_db: float
    top1: float | None


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What the quantization of each layer costs. It prints as a table.

    Attributes:
        scheme: Name of the scheme.
        images: Number of images that it was measured on.
        rows: A `LayerCost` for each layer that the scheme quantizes, the most expensive first.
        snr_db: Signal-to-noise ratio in dB if all layers are quantized.
        top1: Fraction of images that the quantized model assigns to their label; None without labels.
        float_top1: The same of the float model.
    """

    scheme: str
    images: int
    rows: tuple[LayerCost, ...]
    snr_db: float
    top1: float | None
    float_top1: float | None

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold; a number that is not finite becomes None."""

        def plain(value):
            if isinstance(value, dict):
                return {name: plain(each) for name, each in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(each) for each in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return plain(dataclasses.asdict(self))

    def __str__(self) -> str:
        def percent(fraction):
            return "-" if fraction is None else f"{fraction:.2%}"

        rows = [(row.layer, f"{row.snr_db:.1f}", percent(row.top1)) for row in self.rows]
        rows.append((f"all, {self.scheme}", f"{self.snr_db:.1f}", percent(self.top1)))
        if self.float_top1 is not None:
            rows.append(("none", "-", percent(self.float_top1)))
        return table(("quantized", "dB", "top-1"), rows)

    def figure(self, layers: int = 30) -> Figure:
        """Draw the signal-to-noise ratio of the most expensive layers.

        Args:
            layers: Number of layers to draw.

        Returns:
            A figure of Matplotlib.

        Raises:
            ImportError: Matplotlib is not installed. The message gives the pip command.
        """
        from keras_vit.inspection.figures import bar_figure

        shown = self.rows[:layers]
        return bar_figure(
            {row.layer: row.snr_db for row in shown},
            f"{self.scheme}: quantizing one layer at a time",
            "signal to noise at the output, dB",
        )


def sensitivity(
    model: keras.Model,
    data: Any,
    scheme: str | Scheme = "hybrid_int8",
    *,
    calibration_data: Any = None,
    overrides: Mapping[str, str] | None = None,
    labels: np.ndarray | None = None,
    batch_size: int = 32,
) -> Sensitivity:
    """Measure what the quantization of each layer costs, by quantizing one layer at a time.

    The layers that cost most are those to keep in float by `overrides`. This takes one pass over the images for each
    layer, so a few dozen images are enough.

    Args:
        model: A float model, or a model returned by `quantize_aware`, which has a scheme and ranges of its own.
        data: Images to measure on, as `quantize_aware` takes them, or a tf.data dataset of (image, label) batches.
        scheme: The scheme of a float model, as `quantize_aware` takes it.
        calibration_data: Images that set the ranges of a float model. The default is `data`.
        overrides: As `quantize_aware` takes them.
        labels: Class indices (n,) or one-hot labels (n, classes). The default is the labels of the dataset, if it has
            any.
        batch_size: Images of an array that the model is given at once.

    Returns:
        The costs, the most expensive layer first.

    Raises:
        ValueError, TypeError: As `quantize_aware` and `verify` raise them.
    """
    if not is_quantized(model):
        if calibration_data is None:
            calibration_data = data
        model = quantize_aware(model, scheme=scheme, calibration_data=calibration_data, overrides=overrides)
    flat = float_model(model, kernels_on_grid=False)
    used = scheme_of(model)
    rows = {name: row for name, row in plan_of(flat, used).rows.items() if row.output or row.kernel_bits is not None}
    batches = [
        (packed(flat, values), len(values[0]), own)
        for values, own in input_batches(data, model_inputs(flat), batch_size, model)
    ]
    with native_logs(), no_retracing_warnings():
        reference = [outputs_of(flat(pixels, training=False)) for pixels, _, _ in batches]

        def compare(name, run):
            comparison = Comparison(name)
            first = 0
            for (pixels, count, own), expected in zip(batches, reference, strict=True):
                given = own if labels is None else labels[first : first + count]
                comparison.add(expected, outputs_of(run(pixels)), given)
                first += count
            return comparison.result()

        costs = []
        for name, row in rows.items():
            with _quantized_alone(flat, model, name, row) as alone:
                result = compare(name, alone)
            costs.append(LayerCost(name, result.snr_db, result.top1))
        whole = compare("all", lambda pixels: model(pixels, training=False))
    return Sensitivity(
        scheme=used.name,
        images=whole.images,
        rows=tuple(sorted(costs, key=lambda cost: cost.snr_db)),
        snr_db=whole.snr_db,
        top1=whole.top1,
        float_top1=whole.reference_top1,
    )


def outputs_of(outputs: Any) -> list[np.ndarray]:
    """Return what a model gives as a list of arrays in float32."""
    return [ops.convert_to_numpy(ops.cast(output, "float32")) for output in keras.tree.flatten(outputs)]


@contextlib.contextmanager
def _quantized_alone(flat, quantized, name, row) -> Iterator[Callable]:
    """Give a float model as a function that computes with one of its layers quantized."""
    layer = next(operation for operation in flat.operations if operation.name == name)
    if isinstance(layer, (AddConstant, MultiplyConstant)):
        layer = quantized.get_layer(name)  # It rounds its constant.

    def on(grid, tensor):
        return quantized.get_layer(f"{grid}.fake_quant")(tensor)

    def call(*args, **kwargs):
        grids = iter(row.inputs)

        def take(value):
            grid = next(grids, "") if ops.is_tensor(value) else ""
            return on(grid, value) if grid else value

        args, kwargs = keras.tree.map_structure(take, (args, kwargs))
        output = layer(*args, **kwargs)
        return on(row.output, output) if row.output else output

    def run(pixels):
        return flat._run_through_graph(
            keras.tree.map_structure(ops.convert_to_tensor, pixels), lambda each: call if each.name == name else each
        )

    if not hasattr(layer, "kernel") or row.kernel_bits is None:
        yield run
        return
    kernel = ops.convert_to_numpy(layer.kernel)
    layer.kernel.assign(quantized.get_layer(name).rounded_kernel())
    try:
        yield run
    finally:
        layer.kernel.assign(kernel)
