"""What a model or a file takes: one batch of images, or one array for each of several inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit.edge.images import image_batches

if TYPE_CHECKING:
    import keras

# The name of an input, and its shape without the batch.
Input = tuple[str, tuple[int | None, ...]]


def model_inputs(model: keras.Model) -> list[Input]:
    """Return the inputs of a functional model, in the order of `model.inputs`.

    Their names are the keys of the dictionary that the model takes, or else those of its input layers.
    """
    keys = sorted(model.input) if isinstance(model.input, dict) else [tensor.name for tensor in model.inputs]
    return [(key, tuple(tensor.shape[1:])) for key, tensor in zip(keys, model.inputs, strict=True)]


def packed(model: keras.Model, values: Sequence) -> Any:
    """Return one value for each input of a model in the structure that the model takes."""
    import keras

    return keras.tree.pack_sequence_as(model.input, list(values))


def output_names(model: keras.Model) -> list[str]:
    """Return the names that a file's signature gives the outputs of a model, in the order of `model.outputs`.

    They are the keys of the dictionary that the model returns, or else "output_0", "output_1" and so on.
    """
    if isinstance(model.output, dict):
        return sorted(model.output)
    return [f"output_{i}" for i in range(len(model.outputs))]


def input_batches(
    data: Any, inputs: Sequence[Input], batch_size: int = 32, model: keras.Model | None = None
) -> Iterator[tuple[list[np.ndarray], np.ndarray | None]]:
    """Iterate over what a model takes in batches, and check each of them.

    Args:
        data: For one input, what `image_batches` takes. For several, a dictionary with an array for each input by its
            name, or a list or tuple of arrays in the order of the inputs, or a finite tf.data dataset of batches of
            these, with or without labels.
        inputs: The name and shape of each input.
        batch_size: Samples per batch of arrays. The batches of a dataset are taken as they are.
        model: The Keras model that takes one input, as in `image_batches`.

    Yields:
        (values, labels): a float32 array for each input, and the dataset's labels or None.

    Raises:
        TypeError, ValueError: As `image_batches`; or there is not one array for each input, or their lengths differ.
    """
    if len(inputs) == 1:
        ((name, shape),) = inputs
        if isinstance(data, dict) and list(data) == [name]:
            data = data[name]
        yield from (([images], labels) for images, labels in image_batches(data, shape, batch_size, model))
    elif hasattr(data, "as_numpy_iterator"):
        if int(data.cardinality()) == -1:
            raise ValueError("The dataset is infinite; limit it with .take(batches).")
        seen = False
        for element in data.as_numpy_iterator():
            labeled = isinstance(element, tuple) and len(element) == 2 and isinstance(element[0], (dict, tuple))
            batch, labels = element if labeled else (element, None)
            for values in _batches(batch, inputs, None):
                seen = True
                yield values, labels
        if not seen:
            raise ValueError("There is nothing to compute on: the dataset is empty.")
    else:
        yield from ((values, None) for values in _batches(data, inputs, batch_size))


def _batches(data: Any, inputs: Sequence[Input], batch_size: int | None) -> Iterator[list[np.ndarray]]:
    """Iterate over arrays for several inputs; without a batch size, all in one batch."""
    names = [name for name, _ in inputs]
    if isinstance(data, dict) and set(data) == set(names):
        arrays = [data[name] for name in names]
    elif isinstance(data, (list, tuple)) and len(data) == len(names):
        arrays = list(data)
    else:
        given = sorted(data) if isinstance(data, dict) else type(data).__name__
        if isinstance(data, (list, tuple)):
            given = f"{given} of {len(data)}"
        raise TypeError(
            f"The model has {len(names)} inputs, {', '.join(map(repr, names))}: pass a dictionary with an array for "
            f"each of these names, or a list of arrays in this order; received {given}."
        )
    arrays = [np.asarray(array) for array in arrays]
    lengths = [len(array) if array.ndim else 0 for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"The arrays for {', '.join(map(repr, names))} have different lengths: {lengths}.")
    size = batch_size or max(lengths[0], 1)
    for parts in zip(*(image_batches(a, s, size) for a, (_, s) in zip(arrays, inputs, strict=True)), strict=True):
        yield [values for values, _ in parts]
