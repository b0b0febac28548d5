"""Random weights for a model that is to be timed."""

import keras
import numpy as np


def randomize(model: keras.Model, seed: int = 0) -> None:
    """Gives every weight a random value.

    A gamma that is initialised to zero lets a converter fold its branch away, and the time is then that of
    another model.
    """
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        values = 0.05 * generator.standard_normal(weight.shape)
        if any(word in weight.path.rpartition("/")[2] for word in ("gamma", "scale", "variance")):
            values = 1 + values
        weight.assign(values)
