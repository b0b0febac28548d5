"""How the frameworks lay a layer's arrays out, whatever the model."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Layout:
    """A framework's habits.

    Attributes:
        join: What stands between the name of a layer and the name of its array.
        arrays: From the name of a Keras weight to the framework's name; a weight not listed has the layer's name alone.
        convert: (array, layer, weight's name) -> the array as Keras has it.
    """

    join: str
    arrays: dict[str, str]
    convert: Callable[[np.ndarray, keras.layers.Layer, str], np.ndarray]


def _from_pytorch(array, layer, weight):
    if weight == "kernel" and isinstance(layer, keras.layers.Conv2D):
        return np.transpose(array, (2, 3, 1, 0))
    if weight == "kernel" and isinstance(layer, keras.layers.Dense):
        return array.T if array.ndim == 2 else array
    return array


def _from_flax(array, layer, weight):
    # Attention kernels are split by head, (dim, heads, head dim) and (heads, head dim, dim), in Keras' own order.
    if isinstance(layer, keras.layers.Dense) and array.ndim == len(layer.kernel.shape) + 1 and weight == "kernel":
        return (
            array.reshape(array.shape[0], -1) if "projection" not in layer.name else array.reshape(-1, array.shape[-1])
        )
    if weight == "bias" and array.ndim == 2:
        return array.reshape(-1)
    return array


PYTORCH = Layout(".", {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}, _from_pytorch)
FLAX = Layout("/", {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias"}, _from_flax)
