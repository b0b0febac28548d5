"""Random weights for a model that is to be timed."""

from collections.abc import Callable, Iterable

import numpy as np


def randomize(model) -> None:
    """Gives every weight of a Keras model a random value.

    A gamma that is initialised to zero lets a converter fold its branch away, and the time is then that of
    another model.
    """
    randomize_with(model.weights, lambda weight: weight.path.rpartition("/")[2])


def randomize_with(weights: Iterable, name: Callable, seed: int = 0) -> None:
    """The same for any framework's variables; `name` gives a variable's own name."""
    generator = np.random.default_rng(seed)
    for weight in weights:
        values = 0.05 * generator.standard_normal(weight.shape)
        if any(word in name(weight) for word in ("gamma", "scale", "variance")):
            values = 1 + values
        weight.assign(values)
