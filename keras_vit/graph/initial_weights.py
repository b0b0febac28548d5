"""Layers whose weights are created with given values, so that no random ones are drawn first and then overwritten."""

from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import keras
import numpy as np
from keras import ops


def weights_by_name(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Return a layer's weights by name.

    A layer that contains other layers can have several weights of one name. These are numbered, as in "kernel:1".
    """
    count = Counter()
    named = {}
    for variable in layer.weights:
        number = count[variable.name]
        named[f"{variable.name}:{number}" if number else variable.name] = variable
        count[variable.name] += 1
    return named


class NodeWeights(MutableMapping[str, np.ndarray]):
    """The weights of a layer by name: NumPy arrays when they are read, and variables until they are replaced.

    Large models are read and built several times on the way to a file, so weights that nobody replaces are not copied
    to NumPy and back.

    Args:
        values: By name, see `weights_by_name`: variables, arrays, or functions that compute an array or a tensor when
            one is needed.

    Attributes:
        values_to_copy: The values as they were given.
    """

    def __init__(self, values: Mapping[str, Any]):
        self.values_to_copy = dict(values)

    def __getitem__(self, name: str) -> np.ndarray:
        value = _computed(self.values_to_copy[name])
        return value if isinstance(value, np.ndarray) else ops.convert_to_numpy(value)

    def __setitem__(self, name: str, value: Any) -> None:
        self.values_to_copy[name] = value

    def __delitem__(self, name: str) -> None:
        del self.values_to_copy[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_to_copy)

    def __len__(self) -> int:
        return len(self.values_to_copy)


class InitialWeights:
    """Values for the weights of a layer that is not built yet.

    Args:
        layer: An unbuilt layer. Weights that it creates itself get their values at once.
        values: Arrays, tensors, variables, or functions that compute an array or a tensor, by the names that
            `weights_by_name` will give the layer's weights. Weights without a value keep what their initializer gives.
    """

    def __init__(self, layer: keras.layers.Layer, values: dict):
        self._layer = layer
        self._values = values
        self._created = set()
        create = layer.add_weight

        def add_weight(*args, name=None, **settings):
            # With a second weight of the name, the order in which they are created need not be that of the names.
            if name not in values or f"{name}:1" in values or len(args) > 1:
                return create(*args, name=name, **settings)
            self._created.add(name)
            return create(*args, name=name, **{**settings, "initializer": self._initializer(name)})

        vars(layer)["add_weight"] = add_weight  # Past Keras, which would track it as a part of the layer.

    def finish(self) -> None:
        """Set the weights that the built layer did not create itself, such as those of layers inside it."""
        del vars(self._layer)["add_weight"]
        for name, variable in weights_by_name(self._layer).items():
            if name in self._values and name not in self._created:
                variable.assign(self._checked(name, variable.shape))

    def _initializer(self, name):
        # The copy of a variable's value: with TensorFlow, both variables use the same memory until one of them changes.
        return lambda shape, dtype=None: ops.copy(ops.convert_to_tensor(self._checked(name, shape), dtype))

    def _checked(self, name, shape):
        value = _computed(self._values[name])
        if tuple(value.shape) != tuple(shape):
            raise ValueError(
                f"The weight '{self._layer.name}/{name}' has the shape {tuple(shape)}; "
                f"the value for it has {tuple(np.shape(value))}."
            )
        return value


def _computed(value):
    return value() if callable(value) else value
