"""How a model takes its images: the one place that the data, preprocessing, calibration and verification ask."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit.graph.reading import class_of
from keras_vit.layers import Preprocessing
from keras_vit.models.image_facts import ImageFacts, Statistics
from keras_vit.models.registry import find_weights, variant

_PIXELS = "pixels in [0, 255]"
_UNCHANGED = Statistics(0.0, 1 / 255)  # The statistics that leave pixels as they are.


def image_facts(model: keras.Model) -> ImageFacts:
    """Return how a model takes its images.

    A model of keras_vit carries these facts, whatever its name, and they are saved with it. For other models, they are
    those of the published model of the same name. If layers or operations in front of a model of keras_vit scale its
    images, such as `Rescaling`, the statistics take this into account.

    Args:
        model: A model of keras_vit, or a model that contains one. It may be flattened, fused, resized or quantized.

    Raises:
        ValueError: No builder of keras_vit made the model, and its name is not in the registry.
    """
    own = own_facts(model)
    return own[0] if own else published_facts(model.name)[1]


def normalizes_images(model: keras.Model) -> bool:
    """Return whether a model takes images in [0, 255] and normalizes them itself (`include_preprocessing`)."""
    own = own_facts(model)
    return own is not None and own[1]


def own_facts(model: keras.Model) -> tuple[ImageFacts, bool] | None:
    """Return the facts that a model carries, and whether it normalizes images itself; None if it carries no facts."""
    found = _find_layer(model)
    if found is None:
        return None
    layer, before = found
    facts = ImageFacts(Statistics(layer.mean, layer.std), layer.crop_fraction, layer.interpolation, layer.source)
    if not before:
        return facts, layer.normalize
    # The layer receives `scale * x + offset` for an image x of the whole model.
    scale, offset = np.float64(1), np.float64(0)
    for factor, term in before:
        scale, offset = scale * factor, offset * factor + term
    taken, shift = (1.0, 0.0) if layer.normalize else map(np.array, facts.statistics.scale_and_offset(_channels(model)))
    shape = (_channels(model),)
    factor, term = (np.broadcast_to(values, shape) for values in (taken / scale, (shift - offset) / scale))
    if np.allclose(factor, 1, atol=1e-4) and np.allclose(term, 0, atol=0.1):
        return facts, True
    std = 1 / (255 * factor)
    return dataclasses.replace(facts, statistics=Statistics(tuple(-term * std), tuple(std))), False


def model_statistics(model: keras.Model) -> Statistics | None:
    """Return the statistics that images must be normalized by for a model, or None if it takes pixels in [0, 255].

    Raises:
        ValueError: It is not known how the model takes images.
    """
    return None if normalizes_images(model) else image_facts(model).statistics


def agreed_statistics(stated: Statistics | None, model: keras.Model, channels: int) -> Statistics | None:
    """Return the statistics that someone stated for the images of a model, if the model does not contradict them.

    Args:
        stated: The statistics that images are normalized by; None if they are pixels in [0, 255].
        model: The model that takes the images.
        channels: Number of channels of the images.

    Raises:
        ValueError: The model carries other facts.
    """
    own = own_facts(model)
    if own is None:
        return stated
    taken = None if own[1] else own[0].statistics
    if _are_equal(stated, taken, channels):
        return stated
    received = f"normalizes images by {stated}" if stated else f"gives {_PIXELS} (statistics=None)"
    wanted = f"images normalized by {taken}" if taken else f"{_PIXELS} and normalizes them itself"
    raise ValueError(
        f"The data {received}, but the model {model.name!r} takes {wanted}. Leave out `statistics`, so that the data "
        "asks the model"
        + (
            f", or build the model with include_preprocessing={stated}, so that it normalizes pixels in this way."
            if stated
            else ", or build the model with include_preprocessing=True, so that it takes pixels."
        )
    )


def image_conversion(model: keras.Model, other: keras.Model) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the factors and terms that turn images as one model takes them into images as another one takes them.

    Returns:
        (factor, term), each of shape (channels,), or None if both take the same images, or if it is not known how one
        of them takes images.
    """
    scales = []
    for each in (model, other):
        own = own_facts(each)
        if own is None:
            return None
        channels = each.inputs[0].shape[-1]
        statistics = _UNCHANGED if own[1] else own[0].statistics
        scales.append(np.array(statistics.scale_and_offset(channels)))
    (scale, offset), (other_scale, other_offset) = scales
    factor = other_scale / scale
    term = other_offset - offset * factor
    return None if np.allclose(factor, 1) and np.allclose(term, 0, atol=1e-6) else (factor, term)


def check_range(images: np.ndarray, model: keras.Model) -> None:
    """Check that images may be what a model takes: pixels in [0, 255], or normalized images.

    Random test images are accepted. Pixels for a model that takes normalized images are refused, and so are normalized
    images for a model that takes pixels, images in [0, 1] for it included. Nothing is checked if it is not known how
    the model takes images.

    Args:
        images: An array of images, such as a batch.
        model: The model that takes them.

    Raises:
        ValueError: The images are in another range. The message names both ranges.
    """
    own = own_facts(model)
    if own is None or not images.size:
        return
    low, high = float(images.min()), float(images.max())
    if not np.isfinite([low, high]).all():
        return  # Others report values that are not finite.
    are_integers = images.dtype.kind in "iub"
    if own[1]:
        # Interpolation may overshoot. Normalized images are small, and not whole like the pixels of a dark image.
        are_small = high <= 1 or (low < 0 and high <= 10)
        look_normalized = are_small and not are_integers and bool(np.any(images % 1))
        if low >= -64 and high <= 319 and not look_normalized:
            return
        takes, hint = "pixels from 0 to 255 and normalizes them itself", "Pass images that are not normalized"
    else:
        statistics = own[0].statistics
        scale, offset = (np.array(values) for values in statistics.scale_and_offset(images.shape[-1]))
        ends = np.stack([offset, 255 * scale + offset])
        # Random normal numbers are accepted: these are below 10.
        limit = max(10.0, 4 * float(np.abs(ends).max()))
        if max(-low, high) <= limit and not (are_integers and limit < 255):
            return
        takes = f"images normalized by {statistics}, from {ends.min():.3g} to {ends.max():.3g}"
        hint = "Prepare the images with keras_vit.preprocess_input(images, model)"
    raise ValueError(
        f"The images are {images.dtype} from {low:.6g} to {high:.6g}, but the model {model.name!r} takes {takes}. "
        f"{hint}, or use data of keras_vit.training: data.for_model(model)."
    )


# By dataset: the function that returns the dataset for a model. Datasets of users are not among them.
_PREPARATIONS: weakref.WeakKeyDictionary[Any, Callable[[keras.Model], Any]] = weakref.WeakKeyDictionary()


def set_preparation(dataset: Any, prepare: Callable[[keras.Model], Any]) -> None:
    """Declare how to get the images of a dataset for a model.

    Args:
        dataset: A tf.data dataset of batches.
        prepare: A function from a model to the dataset with images as the model takes them. It must not refer to
            `dataset`, which would then never be freed.
    """
    _PREPARATIONS[dataset] = prepare


def prepared_for(dataset: Any, model: keras.Model) -> Any:
    """Return a dataset with images as a model takes them, if it is one of keras_vit.training, or else as it is."""
    try:
        prepare = _PREPARATIONS.get(dataset)
    except TypeError:  # It can't be a key of the dictionary, such as a NumPy array.
        prepare = None
    return dataset if prepare is None else prepare(model)


def published_facts(name: str, weights: str | None = None) -> tuple[tuple[int, int], ImageFacts]:
    """Return the image size and the image facts of a registry name, or of its weights with a tag.

    Args:
        name: A registry name, optionally followed by a dot and a tag.
        weights: A tag, which takes precedence.

    Raises:
        ValueError: There is no such name or tag.
    """
    name, _, tag = name.partition(".")
    try:
        entry = variant(name)
    except ValueError as error:
        raise ValueError(
            f"It is not known how the model {name!r} takes images: keras_vit did not build it, and its name is not in "
            "the registry. Pass the name of a published model that takes images in the same way, such as "
            f"name='vit_b16', or name='vit_b16.augreg_in21k' for published weights. ({error})"
        ) from error
    record = find_weights(name, weights or tag) if weights or tag else entry
    return record.image_size, record.image_facts


def _channels(model):
    return model.inputs[0].shape[-1]


def _are_equal(one, other, channels):
    if one is None or other is None:
        return one is other
    return np.allclose(one.scale_and_offset(channels), other.scale_and_offset(channels), rtol=1e-3, atol=1e-6)


def _find_layer(model):
    """Return the layer with the facts, and the factors and terms of the layers that scale images before it."""
    for layer in model.layers:
        inner = (layer, []) if isinstance(layer, Preprocessing) else None
        if isinstance(layer, keras.Model):
            inner = _find_layer(layer)
        if inner is not None:
            return inner[0], _scales_before(model, layer) + inner[1]
    return None


def _scales_before(model, layer):
    """Return the factor and the term of each operation between the input of a model and a layer, in order."""
    if isinstance(model, keras.Sequential):
        before = [(operation, None) for operation in model.layers[: model.layers.index(layer)]]
    else:
        calls = [call for depth in getattr(model, "_nodes_by_depth", {}).values() for call in depth]
        chains = [_chain_before(call) for call in calls if call.operation is layer]
        # Of a layer that is called several times, the call that is nearest to the images decides.
        before = min(chains, key=len, default=[])
    scales = [_scale_and_offset(operation, call) for operation, call in before]
    return [scale for scale in scales if scale is not None]


def _chain_before(call):
    """Return the operations between the input of a model and a call, in order, with their calls."""
    before = []
    while len(call.input_tensors) == 1:
        operation, index, _ = call.input_tensors[0]._keras_history
        call = operation._inbound_nodes[index]
        before.insert(0, (operation, call))
    return before


_ARITHMETIC = {  # From the operation to factor and term, for `x (op) number` and for `number (op) x`.
    class_of(ops.negative): (lambda _: (-1.0, 0.0), None),
    class_of(lambda x: ops.add(x, 1)): (lambda n: (1.0, n), lambda n: (1.0, n)),
    class_of(lambda x: ops.subtract(x, 1)): (lambda n: (1.0, -n), lambda n: (-1.0, n)),
    class_of(lambda x: ops.multiply(x, 1)): (lambda n: (n, 0.0), lambda n: (n, 0.0)),
    class_of(lambda x: ops.true_divide(x, 1)): (lambda n: (1 / n, 0.0), None),
    class_of(lambda x: ops.divide(x, 1)): (lambda n: (1 / n, 0.0), None),
}


def _scale_and_offset(operation, call):
    """Return the factor and term of an operation that scales images; None for one that keeps their range."""
    if isinstance(operation, keras.layers.Rescaling):
        return np.asarray(operation.scale, "float64"), np.asarray(operation.offset, "float64")
    if isinstance(operation, keras.layers.Normalization) and operation.mean is not None and not operation.invert:
        mean, variance = (np.asarray(ops.convert_to_numpy(x)).ravel() for x in (operation.mean, operation.variance))
        std = np.maximum(np.sqrt(variance), keras.config.epsilon())
        return 1 / std, -mean / std
    if call is not None and type(operation) in _ARITHMETIC:
        values = list(call.arguments.args) + list(call.arguments.kwargs.values())
        numbers = [np.asarray(x, "float64").ravel() for x in values if not isinstance(x, keras.KerasTensor)]
        of = _ARITHMETIC[type(operation)][0 if isinstance(values[0], keras.KerasTensor) else 1]
        return of(numbers[0] if numbers else None) if of is not None else None
    return None
