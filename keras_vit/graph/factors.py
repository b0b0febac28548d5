"""Layers and operations that only multiply by constants and add constants: what they multiply by and add."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_vit.graph.flat_graph import Node
from keras_vit.graph.reading import class_of
from keras_vit.layers import Affine, HeadScale, LayerScale, Preprocessing, Scale, Shift
from keras_vit.utils.normalization import scale_and_offset

_TENSOR = object()  # Stands for the tensor among the arguments of an operation.


def scale_and_shift(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the factors and terms of a node that computes `scale * x + shift` with constants in inference.

    Returns:
        (scale, shift), each of shape () for one number, or (channels,); None for a node that computes something else,
        or has numbers along another axis than the last.
    """
    read = next((read for kind, read in _READERS.items() if node.is_a(kind)), None)
    found = read(node) if read and len(node.calls[0].inputs) == 1 else None
    if found is None:
        return None
    scale, shift = (_over_channels(values, node) for values in found)
    return None if scale is None or shift is None else (scale, shift)


def only_records_facts(node: Node) -> bool:
    """Return whether a node is a layer that records how images must be normalized, and passes them on."""
    return node.is_a(Preprocessing) and not node.config["normalize"]


def _over_channels(values, node):
    values = np.asarray(values)
    if values.size == 1:
        return values.reshape(())
    channels = {call.inputs[0].shape[-1] for call in node.calls}
    # All the numbers along the last axis.
    return values.reshape(-1) if channels == {values.size} == {values.shape[-1]} else None


def _batch_normalization(node):
    if node.config["axis"] not in (-1, len(node.inputs[0].shape) - 1):
        return None
    weights = node.weights
    scale = weights.get("gamma", 1) / np.sqrt(weights["moving_variance"] + node.config["epsilon"])
    return scale, weights.get("beta", 0) - weights["moving_mean"] * scale


def _head_scale(node):
    return np.repeat(node.weights["gamma"], node.inputs[0].shape[-1] // node.config["num_heads"]), np.float32(0)


def _normalization(node):
    mean, variance = (ops.convert_to_numpy(values) for values in (node.source.mean, node.source.variance))
    std = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return (std, mean) if node.config["invert"] else (1 / std, -mean / std)


def _preprocessing(node):
    if not node.config["normalize"]:
        return None
    channels = node.inputs[0].shape[-1]
    scale, offset = scale_and_offset(node.source.mean, node.source.std, channels)
    return np.float32(scale), np.float32(offset)


def _constant(node):
    """Return the constant of an operation of a tensor and a constant, and whether the tensor comes first."""
    if not node.is_called_once:
        return None
    args, kwargs = node.calls[0].arguments([_TENSOR])
    arguments: list = [*args, *kwargs.values()]
    first, second = arguments
    constant = ops.convert_to_numpy(ops.convert_to_tensor(second if first is _TENSOR else first, "float32"))
    return constant, first is _TENSOR


def _operation(read: Callable) -> Callable:
    def reader(node):
        found = _constant(node)
        return None if found is None else read(*found)

    return reader


def _divided(constant, tensor_first):
    return (1 / constant, np.float32(0)) if tensor_first else None


# How to read each class of layers and operations.
_READERS: dict[type, Callable] = {
    Scale: lambda node: (np.float32(node.config["factor"]), np.float32(0)),
    Shift: lambda node: (np.float32(1), np.float32(node.config["offset"])),
    LayerScale: lambda node: (node.weights["gamma"], np.float32(0)),
    HeadScale: _head_scale,
    Affine: lambda node: (node.weights["gamma"], node.weights["beta"]),
    Preprocessing: _preprocessing,
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.Rescaling: lambda node: (np.float32(node.source.scale), np.float32(node.source.offset)),
    keras.layers.Normalization: _normalization,
    class_of(lambda x: x * 2.0): _operation(lambda constant, _: (constant, np.float32(0))),
    class_of(lambda x: x / 2.0): _operation(_divided),
    class_of(lambda x: ops.divide(x, 2.0)): _operation(_divided),
    class_of(lambda x: x + 2.0): _operation(lambda constant, _: (np.float32(1), constant)),
    class_of(lambda x: x - 2.0): _operation(
        lambda constant, tensor_first: (np.float32(1), -constant) if tensor_first else (np.float32(-1), constant)
    ),
    class_of(ops.negative): lambda node: (np.float32(-1), np.float32(0)),
}
