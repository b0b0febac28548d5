"""How each framework names and lays out the arrays of a layer, for any model."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Layout:
    """The names and the layout of a framework's arrays.

    Attributes:
        join: Separator between the name of a layer and the name of its array.
        arrays: The framework's name for each Keras weight. A weight that is not listed has the name of the layer.
        convert: Function (array, layer, name of the weight) that returns the array in Keras' layout.
        counters: Suffixes of the names of arrays that only training uses and no weight needs.
    """

    join: str
    arrays: dict[str, str]
    convert: Callable[[np.ndarray, keras.layers.Layer, str], np.ndarray]
    counters: tuple[str, ...] = ()


def from_bfloat16(array: np.ndarray) -> np.ndarray:
    """Convert bfloat16 to float32. NumPy has no bfloat16, so it reads such an array as raw items of two bytes."""
    if array.dtype.kind != "V" or array.dtype.itemsize != 2:
        return array
    return (array.view("uint16").astype("uint32") << 16).view("float32")


def _from_pytorch(array, layer, weight):
    if weight == "kernel" and isinstance(layer, keras.layers.DepthwiseConv2D):
        # PyTorch: (channels * multiplier, 1, height, width). Keras: (height, width, channels, multiplier).
        fits = array.ndim == 4 and array.size == math.prod(layer.kernel.shape)
        return np.transpose(array, (2, 3, 0, 1)).reshape(layer.kernel.shape) if fits else array
    if weight == "kernel" and isinstance(layer, keras.layers.Conv2D):
        return np.transpose(array, (2, 3, 1, 0)) if array.ndim == 4 else array
    if weight == "kernel" and isinstance(layer, keras.layers.Dense):
        # PyTorch models may use a 1 x 1 convolution as the dense layer over the channels of a map.
        return array.reshape(array.shape[:2]).T if array.shape[2:] in ((), (1, 1)) else array
    return array


def _from_flax(array, layer, weight):
    # Attention kernels are split by head, (width, heads, head dim) or (heads, head dim, width), in the order of Keras.
    if isinstance(layer, keras.layers.Dense) and array.ndim == len(layer.kernel.shape) + 1 and weight == "kernel":
        return (
            array.reshape(array.shape[0], -1) if "projection" not in layer.name else array.reshape(-1, array.shape[-1])
        )
    if weight == "bias" and array.ndim == 2:
        return array.reshape(-1)
    return array


PYTORCH = Layout(
    ".",
    {
        "kernel": "weight",
        "bias": "bias",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    _from_pytorch,
    counters=(".num_batches_tracked",),
)
FLAX = Layout("/", {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias"}, _from_flax)
