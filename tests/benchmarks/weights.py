"""Random weights for models in benchmarks."""

from collections.abc import Callable, Iterable

import numpy as np


def randomize(model) -> None:
    """Set every weight of a Keras model to a random value.

    If a gamma stays at its initial value of zero, a converter can remove the branch, and the time would be that of a
    different model.
    """
    randomize_with(model.weights, lambda weight: weight.path.rpartition("/")[2])


def randomize_with(weights: Iterable, name: Callable, seed: int = 0) -> None:
    """Set the variables of any framework to random values. `name` returns the name of a variable."""
    generator = np.random.default_rng(seed)
    for weight in weights:
        values = 0.05 * generator.standard_normal(weight.shape)
        if any(word in name(weight) for word in ("gamma", "scale", "variance")):
            values = 1 + values
        weight.assign(values)
