"""The table that says where a model's arrays stand in a published file."""

import re
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_vit.weights.layouts import Layout


@dataclass(frozen=True)
class Third:
    """One of three arrays that a file keeps stacked along its first axis, as PyTorch's fused query, key and value."""

    name: str
    index: int


@dataclass(frozen=True)
class Naming:
    """How one project names the arrays of one family.

    Attributes:
        project: Whose names they are.
        layout: The framework's layout of arrays.
        leaves: From the leaf layer's name in `keras_vit.flatten` to the file's, with {i} for a number.
        may_be_unused: Beginnings of names that a file may have although the model has no place for them.
    """

    project: str
    layout: Layout
    leaves: dict[str, str | Third]
    may_be_unused: tuple[str, ...] = ()
    _patterns: dict = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        for template, place in self.leaves.items():
            pattern = re.escape(template).replace(r"\{i\}", r"(\d+)")
            self._patterns[re.compile(pattern)] = place

    def place(self, leaf: str, weight: str) -> tuple[str, int | None] | None:
        """The file's name for a weight of a leaf layer, and which third of it; None for a leaf it does not know."""
        for pattern, place in self._patterns.items():
            if match := pattern.fullmatch(leaf):
                name, index = (place.name, place.index) if isinstance(place, Third) else (place, None)
                name = name.replace("{i}", match.group(1)) if match.groups() else name
                array = self.layout.arrays.get(weight)
                return (name if array is None else f"{name}{self.layout.join}{array}"), index
        return None

    def take(self, arrays: dict[str, np.ndarray], leaf: str, layer: keras.layers.Layer, weight: str) -> np.ndarray:
        """The array of a weight, as Keras lays it out."""
        name, index = self.place(leaf, weight)
        array = arrays[name]
        if index is not None:
            if array.shape[0] % 3:
                raise ValueError(f"{name!r} stacks three arrays along its first axis; received {array.shape}.")
            array = np.split(array, 3)[index]
        return self.layout.convert(array, layer, weight)
