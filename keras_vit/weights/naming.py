"""The table that says where a model's arrays stand in a published file."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from keras_vit.weights.layouts import Layout


@dataclass(frozen=True)
class Part:
    """A piece of an array that a file keeps whole, in the file's layout.

    Attributes:
        name: The file's name for the whole.
        take: From the whole array to the piece.
        is_array: Whether the name is the array's own, rather than that of the layer it belongs to.
    """

    name: str
    take: Callable[[np.ndarray], np.ndarray] = lambda array: array
    is_array: bool = False


def third(name: str, index: int) -> Part:
    """One of three arrays that a file keeps stacked along its first axis, as PyTorch's fused query, key and value."""
    return _stacked(name, index, 3)


def half(name: str, index: int) -> Part:
    """One of two arrays that a file keeps stacked along its first axis, as PyTorch's fused key and value."""
    return _stacked(name, index, 2)


def without_first_axis(name: str) -> Part:
    """An array that a file keeps with a first axis of one, for the batch."""
    return Part(name, lambda array: array[0] if array.shape[:1] == (1,) else array)


def _stacked(name, index, count):
    def take(array):
        if array.shape[0] % count:
            raise ValueError(f"{name!r} stacks {count} arrays along its first axis; received the shape {array.shape}.")
        return np.split(array, count)[index]

    return Part(name, take)


@dataclass(frozen=True)
class Naming:
    """How one project names the arrays of one family.

    Attributes:
        project: Whose names they are.
        layout: The framework's layout of arrays.
        leaves: From the leaf layer's name in `keras_vit.flatten` to the file's. A letter in braces, as in
            "block_{i}.norm", stands for a number, the same one on both sides.
        may_be_unused: Beginnings of names that a file may have although the model has no place for them.
        respell: From a file's arrays in any of the spellings that occur to the names in `leaves`.
    """

    project: str
    layout: Layout
    leaves: dict[str, str | Part]
    may_be_unused: tuple[str, ...] = ()
    respell: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict
    _patterns: dict = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        for template, place in self.leaves.items():
            pattern = re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(template))
            self._patterns[re.compile(pattern)] = place if isinstance(place, Part) else Part(place)

    def place(self, leaf: str, weight: str) -> str | None:
        """The file's name for the array that a weight of a leaf layer is in; None for a leaf it does not know."""
        found = self._find(leaf)
        if found is None:
            return None
        array = self.layout.arrays.get(weight)
        return found.name if array is None or found.is_array else f"{found.name}{self.layout.join}{array}"

    def take(self, arrays: dict[str, np.ndarray], leaf: str, layer: keras.layers.Layer, weight: str) -> np.ndarray:
        """The array of a weight, as Keras lays it out."""
        part, place = self._find(leaf), self.place(leaf, weight)
        if part is None or place is None:
            raise KeyError(leaf)
        return self.layout.convert(part.take(arrays[place]), layer, weight)

    def _find(self, leaf):
        for pattern, part in self._patterns.items():
            if match := pattern.fullmatch(leaf):
                return replace(part, name=part.name.format(**match.groupdict()))
        return None
