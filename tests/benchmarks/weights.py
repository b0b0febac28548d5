"""Random weights for models in benchmarks, and the files of such models."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np


@contextlib.contextmanager
def random_files(name: str, precisions: Iterable[str]) -> Iterator[dict[str, str]]:
    """Export a model with random weights, and give the paths of its files by precision for the time of the block."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {precision: os.path.join(folder, f"{precision}.tflite") for precision in precisions}
        export_random(name, paths)
        yield paths


def export_random(name: str, paths: Mapping[str, str | os.PathLike]) -> None:
    """Export a model with random weights to a path for each precision."""
    import keras_vit
    from keras_vit import edge

    model = keras_vit.create_model(name)
    randomize(model)
    images = np.random.default_rng(0).standard_normal((8, *model.input_shape[1:])).astype(np.float32)
    for precision, path in paths.items():
        calibration = {"calibration_data": images} if edge.SCHEMES[precision].needs_ranges else {}
        edge.export(model, path, precision=precision, **calibration)


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


def randomize_scales(model, seed: int = 0) -> None:
    """Set the scales of a Keras model, of which some start at 0 or near it, to random values around 1."""
    scales = [weight for weight in model.weights if any(word in weight.path for word in ("gamma", "scale"))]
    generator = np.random.default_rng(seed)
    for weight in scales:
        weight.assign(1 + 0.1 * generator.standard_normal(weight.shape))
