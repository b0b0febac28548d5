"""Tables of the names that published files use for a model's arrays."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import keras
import numpy as np

from keras_vit.weights.layouts import Layout


@dataclass(frozen=True)
class Part:
    """A part of an array of a file, in the file's layout.

    Attributes:
        name: The file's name for the whole array.
        take: Function that returns the part of the whole array.
        is_array: Whether `name` is the name of the array itself, rather than of the layer that it belongs to.
    """

    name: str
    take: Callable[[np.ndarray], np.ndarray] = lambda array: array
    is_array: bool = False


def third(name: str, index: int) -> Part:
    """Return one of three arrays that a file stacks along the first axis, such as query, key and value."""
    return _stacked(name, index, 3)


def half(name: str, index: int) -> Part:
    """Return one of two arrays that a file stacks along the first axis, such as key and value."""
    return _stacked(name, index, 2)


def without_first_axis(name: str) -> Part:
    """Return an array without the first axis that a file has for the batch, which has length 1."""
    return Part(name, lambda array: array[0] if array.shape[:1] == (1,) else array)


def _stacked(name, index, count):
    def take(array):
        if array.shape[0] % count:
            raise ValueError(
                f"{name!r} must stack {count} arrays along its first axis; received the shape {array.shape}."
            )
        return np.split(array, count)[index]

    return Part(name, take)


@dataclass(frozen=True)
class Naming:
    """The names that a project uses for the arrays of a family.

    Attributes:
        project: The project.
        layout: The framework's layout of arrays.
        leaves: The file's name for each leaf layer, by its name in `keras_vit.flatten`. A letter in braces, as in
            "block_{i}.norm", is a number, the same in both names. A name such as "block_{i}.query/bias" stands for one
            weight of a layer whose weights come from different layers of the file.
        may_be_missing: Names of arrays that published files do not have; the model then keeps its own.
        may_be_unused: Prefixes of names that a file may contain although the model does not need them.
        beside_the_model: Prefixes of names of parts that only some models of the family have, such as the decoder of an
            autoencoder. For another model, they are more than its weights rather than the weights of another model.
        unused_without_head: Prefixes of names that may be unused only if the classifier is not loaded from the file,
            because the classifier needs them.
        respell: Function that renames the arrays of a file, in any published spelling, to the names in `leaves`.
        aliases: Further names of arrays that `respell` renames, each with the name in `leaves`. Only needed to find
            the beginning of names in such a spelling.
    """

    project: str
    layout: Layout
    leaves: Mapping[str, str | Part]
    may_be_missing: tuple[str, ...] = ()
    may_be_unused: tuple[str, ...] = ()
    beside_the_model: tuple[str, ...] = ()
    unused_without_head: tuple[str, ...] = ()
    respell: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict
    aliases: Mapping[str, str] = field(default_factory=dict)
    _exact: dict = field(init=False, default_factory=dict, repr=False, compare=False)
    _patterns: dict = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        for template, place in self.leaves.items():
            part = place if isinstance(place, Part) else Part(place)
            if "{" not in template:
                self._exact[template] = part
            else:
                pattern = re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(template))
                self._patterns[re.compile(pattern)] = part

    def place(self, leaf: str, weight: str) -> str | None:
        """Return the file's name for the array that contains a weight of a leaf layer, or None for an unknown leaf."""
        found = self._find(leaf, weight)
        if found is None:
            return None
        array = self.layout.arrays.get(weight)
        return found.name if array is None or found.is_array else f"{found.name}{self.layout.join}{array}"

    def take(self, arrays: dict[str, np.ndarray], leaf: str, layer: keras.layers.Layer, weight: str) -> np.ndarray:
        """Return the array of a weight, in Keras' layout."""
        part, place = self._find(leaf, weight), self.place(leaf, weight)
        if part is None or place is None:
            raise KeyError(leaf)
        return self.layout.convert(part.take(arrays[place]), layer, weight)

    def knows(self, name: str, *, with_beginning: bool = False) -> bool:
        """Return whether a name of a file is one of this naming's, for a model of any depth.

        Args:
            name: The name.
            with_beginning: Whether the name may have a beginning, such as "module.".
        """
        return (self._names.search if with_beginning else self._names.match)(name) is not None

    @functools.cached_property
    def _names(self):
        places = [place.name if isinstance(place, Part) else place for place in self.leaves.values()]
        layers = "|".join(re.sub(r"\\\{\w\\\}", r"\\d+", re.escape(place)) for place in places)
        arrays = "|".join(sorted(set(self.layout.arrays.values())))
        return re.compile(rf"(?:^|(?<=[./]))(?:{layers})(?:{re.escape(self.layout.join)}(?:{arrays}))?$")

    def _find(self, leaf, weight):
        for name in (f"{leaf}/{weight}", leaf):
            if name in self._exact:
                return self._exact[name]
            for pattern, part in self._patterns.items():
                if match := pattern.fullmatch(name):
                    return replace(part, name=part.name.format(**match.groupdict()))
        return None
