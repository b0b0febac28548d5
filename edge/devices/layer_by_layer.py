"""Compare what the layers of two models or files compute, to find where they part."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit.edge.devices.runner import dequantized, find_interpreter, quantized
from keras_vit.edge.files.layer_names import layers_in
from keras_vit.edge.files.tflite_graph import read_graph
from keras_vit.utils.missing import needs

if TYPE_CHECKING:
    import keras

# Above this signal-to-noise ratio in dB, outputs differ by rounding in another order, and count as equal.
_EQUAL_DB = 60.0
# Where two models part, a layer loses this much and falls below this.
_LOSS_DB, _WRONG_DB = 10.0, 20.0

Values = Mapping[str, np.ndarray]
# The first and the last of some samples (exclusive), and a layer's output for these by the layer's name.
_Batch = tuple[int, int, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class LayerDifference:
    """How far the outputs of a layer are apart.

    Attributes:
        layer: The name of the layer.
        snr_db: The signal-to-noise ratio in dB; infinite if the outputs are equal.
        max_abs_error: The largest absolute difference.
    """

    layer: str
    snr_db: float
    max_abs_error: float


@dataclasses.dataclass(frozen=True)
class Parting:
    """The layer in which most is lost.

    Attributes:
        layer: The name of the layer.
        before_db: The least signal-to-noise ratio of the layers before it in dB, where 60 stands for more.
        after_db: Its own signal-to-noise ratio.
    """

    layer: str
    before_db: float
    after_db: float

    def __str__(self) -> str:
        return f"{self.layer!r} ({self.before_db:.0f} dB before it, {self.after_db:.0f} dB after it)"


@dataclasses.dataclass(frozen=True)
class _Side:
    """One of the two that are compared.

    Attributes:
        names: The names of its layers in the order of computation.
        run: From the values of the inputs by name to the outputs of layers, in batches.
        rounded: For the layers of a quantized model, the layer that rounds their output.
        integers: The layers whose outputs are integers in a file, and so are rounded.
    """

    names: list[str]
    run: Callable[[Values], Iterator[_Batch]]
    rounded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    integers: frozenset[str] = frozenset()

    def source(self, layer: str, other: _Side) -> str:
        """Return the layer to compare with a layer of another side: the one that rounds, if the other side rounds."""
        return self.rounded.get(layer, layer) if layer in other.integers else layer


def layer_differences(reference: Any, candidate: Any, values: Values) -> list[LayerDifference]:
    """Return how far the outputs of each layer that both sides have are apart, in the order of the reference.

    The reference is fused first, as an export fuses it. A file has the outputs of some layers only, since converters
    join layers. It is computed without the kernels that do not keep what lies between layers, such as XNNPACK's.

    Args:
        reference: A Keras model, or the path of a .tflite or .onnx file.
        candidate: Likewise.
        values: The arrays (N, ...) for the inputs by name. Memory is needed for the outputs of all layers.
    """
    models = {id(each): _model_side(each) for each in (reference, candidate) if not _is_path(each)}
    known = list(dict.fromkeys(name for side in models.values() for name in side.names))
    if not known:
        known = [name for each in (reference, candidate) for name in _names_in_file(os.fspath(each))]
    one, other = (
        models[id(each)] if id(each) in models else _file_side(os.fspath(each), known)
        for each in (reference, candidate)
    )
    wanted = _together(one.run(values))
    differences: dict[str, _Difference] = {}
    for first, last, given in other.run(values):
        for name in one.names:
            like, array = wanted.get(one.source(name, other)), given.get(other.source(name, one))
            aligned = None if like is None or array is None else _aligned(array, like[first:last])
            if like is not None and aligned is not None:
                differences.setdefault(name, _Difference()).add(like[first:last], aligned)
    return [differences[name].result(name) for name in one.names if name in differences]


def parting(rows: Sequence[LayerDifference]) -> Parting | None:
    """Return the layer whose signal-to-noise ratio falls furthest below those before it.

    None is returned if no layer falls below 20 dB and loses 10 dB.
    """
    least, found, most = _EQUAL_DB, None, _LOSS_DB
    for row in rows:
        snr = -np.inf if np.isnan(row.snr_db) else min(row.snr_db, _EQUAL_DB)
        if snr < _WRONG_DB and least - snr >= most:
            most, found = least - snr, Parting(row.layer, least, row.snr_db)
        least = min(least, snr)
    return found


class _Difference:
    """The difference of a layer's outputs over the batches so far."""

    def __init__(self):
        self.signal = self.noise = self.largest = np.float64(0)

    def add(self, wanted: np.ndarray, given: np.ndarray) -> None:
        error = given.astype(np.float64) - wanted
        self.signal += np.square(wanted, dtype=np.float64).sum()
        self.noise += np.square(error).sum()
        self.largest = np.maximum(self.largest, np.abs(error).max(initial=0))

    def result(self, layer: str) -> LayerDifference:
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = 10 * np.log10(self.signal / self.noise) if self.noise else np.inf
        return LayerDifference(layer, float(snr), float(self.largest))


def _is_path(each: Any) -> bool:
    return isinstance(each, (str, os.PathLike))


def _together(batches: Iterator[_Batch]) -> dict[str, np.ndarray]:
    """Return the outputs of each layer for all samples; a file of one sample may have no axis for them."""
    parts: dict[str, list[np.ndarray]] = {}
    for first, last, given in batches:
        for name, array in given.items():
            if array.ndim and len(array) == last - first:
                parts.setdefault(name, []).append(array)
            elif last - first == 1:
                parts.setdefault(name, []).append(array[None])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _aligned(given: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Return an output of a file with its axes as in the model; None if it has another number of values.

    A file may store the axes in another order, and neighboring axes as one. Of the orders, the nearest one is taken.
    """
    if given.shape == wanted.shape or given.size != wanted.size:
        return given if given.shape == wanted.shape else None
    orders = itertools.permutations(range(wanted.ndim))
    found = (given.reshape([wanted.shape[axis] for axis in order]).transpose(np.argsort(order)) for order in orders)
    return min(found, key=lambda array: float(np.square(array - wanted).sum()))


def _model_side(model: keras.Model) -> _Side:
    import keras

    from keras_vit.edge.inputs import model_inputs, packed
    from keras_vit.edge.quantization.fake_quant import FakeQuant
    from keras_vit.edge.quantization.integer_plan import leaf_of
    from keras_vit.edge.quantization.plan import is_clamp
    from keras_vit.edge.quantization.quantize import is_quantized
    from keras_vit.graph.fusion import fuse
    from keras_vit.graph.reading import calls_before

    flat = model if is_quantized(model) else fuse(model)
    tensors: dict[str, keras.KerasTensor] = {}
    made_by: dict[int, str] = {}
    users: dict[str, list] = {}
    for call in calls_before(flat.outputs):
        for tensor in call.input_tensors:
            users.setdefault(made_by.get(id(tensor), ""), []).append(call.operation)
        if not call.is_input:
            if isinstance(call.operation, keras.layers.Layer):  # Others have names that operations of layers have too.
                tensors.setdefault(call.operation.name, call.output_tensors[0])
            made_by.update((id(tensor), call.operation.name) for tensor in call.output_tensors)

    def rounded_by(name):
        """Return the layer that rounds an output, behind the ReLU that files of integers have in the operator."""
        after = users.get(name, [])
        if len(after) != 1:
            return None
        if is_clamp(after[0]) or leaf_of(after[0]).operator in ("RELU", "RELU6"):
            return rounded_by(after[0].name)
        return after[0].name if isinstance(after[0], FakeQuant) else None

    rounded = {name: found for name in users if (found := rounded_by(name))}
    network = keras.Model(flat.input, list(tensors.values()))
    names = [name for name, _ in model_inputs(flat)]

    def run(values: Values) -> Iterator[_Batch]:
        arrays = _in_order(values, names)
        outputs = network(packed(flat, arrays), training=False)
        found = {
            name: keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))
            for name, output in zip(tensors, outputs, strict=True)
        }
        yield 0, len(arrays[0]), found

    return _Side(list(tensors), run, rounded)


def _file_side(path: str, known: Sequence[str]) -> _Side:
    return (_onnx_side if path.endswith(".onnx") else _tflite_side)(path, known)


def _tflite_side(path: str, known: Sequence[str]) -> _Side:
    order = {name: place for place, name in enumerate(known)}
    tensors: dict[str, int] = {}
    graph = read_graph(Path(path).read_bytes())
    for operator in graph.operators:
        if operator.name in ("QUANTIZE", "DEQUANTIZE"):  # They belong to what takes the value.
            continue
        mentioned = layers_in(operator.outputs[0].name, order)
        if mentioned:
            tensors[max(mentioned, key=order.__getitem__)] = operator.outputs[0].index
    kind, _ = find_interpreter()
    resolvers = importlib.import_module(kind.__module__).OpResolverType
    interpreter = kind(
        model_path=path,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    names = [graph.input_names.get(detail["index"], detail["name"]) for detail in interpreter.get_input_details()]

    def run_batch(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(detail["index"], quantized(array, detail))
        interpreter.invoke()
        return {name: dequantized(interpreter.get_tensor(index), details[index]) for name, index in tensors.items()}

    batch_size = int(interpreter.get_input_details()[0]["shape"][0])
    integers = frozenset(name for name, index in tensors.items() if np.dtype(details[index]["dtype"]).kind != "f")
    return _Side(sorted(tensors, key=order.__getitem__), _in_batches(names, batch_size, run_batch), integers=integers)


def _onnx_side(path: str, known: Sequence[str]) -> _Side:
    with needs("onnx and onnxruntime", "comparing the layers of ONNX files", "onnx"):
        import onnx
        import onnxruntime

    model = onnx.load(path)
    tensors = {
        node.name.rpartition("/")[0]: node.output[0]
        for node in model.graph.node
        if node.op_type != "QuantizeLinear" and node.name.rpartition("/")[0] in set(known)
    }
    declared = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors.values() if name not in declared)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run_batch(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        outputs = session.run(list(tensors.values()), dict(zip(names, arrays, strict=True)))
        return {name: np.asarray(array, np.float32) for name, array in zip(tensors, outputs, strict=True)}

    return _Side(list(tensors), _in_batches(names, session.get_inputs()[0].shape[0], run_batch))


def _in_batches(
    names: Sequence[str], size: int, run_batch: Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]
) -> Callable[[Values], Iterator[_Batch]]:
    """Return the `run` of a file that takes `size` samples at once. Samples that do not fill a batch are left out."""

    def run(values: Values) -> Iterator[_Batch]:
        arrays = _in_order(values, names)
        for first in range(0, len(arrays[0]) - size + 1, size):
            yield first, first + size, run_batch([array[first : first + size] for array in arrays])

    return run


def _in_order(values: Values, names: Sequence[str]) -> list[np.ndarray]:
    """Return the values by these names, or in their own order if the names are others."""
    return [values[name] for name in names] if set(names) == set(values) else list(values.values())


def _names_in_file(path: str) -> list[str]:
    """Return the names that may be those of layers in a file."""
    if path.endswith(".onnx"):
        import onnx

        return [node.name.rpartition("/")[0] for node in onnx.load(path).graph.node]
    operators = read_graph(Path(path).read_bytes()).operators
    pieces = [piece.split("/") for operator in operators for piece in operator.outputs[0].name.split(";")]
    return [parts[1] for parts in pieces if len(parts) > 2]  # The model, the layer, and its operations.
