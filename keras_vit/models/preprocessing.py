"""Images as the evaluation of a published model takes them."""

import keras
import numpy as np
from keras import ops

from keras_vit.models.images import NORMALIZATION, resize_and_crop
from keras_vit.models.registry import Variant, variant
from keras_vit.weights.catalog import PublishedWeights, find_weights


def preprocess_input(images, model: keras.Model | str, weights: str | None = None, *, name: str | None = None):
    """Images as a model takes them: resized, its centre cut out, and normalized as in training.

    Args:
        images: (batch, height, width, channels) or one (height, width, channels), of any size, in [0, 255]: a NumPy
            array, a tensor of known shape, or what NumPy makes an array of, such as a pillow image.
        model: A model of keras_vit, whose input size is taken; or a registry name, whose published size is taken. A
            model with `include_preprocessing` gets images in [0, 255], because it normalizes them itself.
        weights: Tag of the published weights, which may have a size and statistics of their own. A model built with
            `weights=TAG` tells it by its name.
        name: Registry name of a model that has another name of its own.

    Returns:
        float32 (batch, *size, channels), or (*size, channels) for one image; a NumPy array unless a tensor was given.

    Raises:
        ValueError: The images are not of that kind, or what the model was trained with is not known.
    """
    if isinstance(model, str):
        facts = facts_of(name or model, weights)
        size, channels, normalizes = facts.image_size, 3, False
    else:
        size, channels = model.input_shape[1:3], model.input_shape[3]
        normalizes = any(layer.name == NORMALIZATION for layer in model.layers)
        facts = facts_of(name or model.name, weights)

    is_tensor = ops.is_tensor(images)
    if not is_tensor:
        images = _array(images)
    _check(images, channels)
    one = len(images.shape) == 3
    x = resize_and_crop(images[None] if one else images, size, facts.crop_fraction, facts.interpolation)
    if not normalizes:
        scale, offset = facts.statistics.scale_and_offset(channels)
        x = x * ops.convert_to_tensor(scale, "float32") + ops.convert_to_tensor(offset, "float32")
    x = x[0] if one else x
    return x if is_tensor else ops.convert_to_numpy(x)


def facts_of(name: str, weights: str | None = None) -> Variant | PublishedWeights:
    """What is known of the images that a published model of that name was trained on.

    Args:
        name: Of the registry, or with a tag as a model of published weights is called, such as "vit_b16.augreg_in21k".
        weights: The tag.

    Raises:
        ValueError: The name is none of the registry's, or there are no weights of that tag.
    """
    name, _, tag = name.partition(".")
    try:
        entry = variant(name)
    except ValueError as error:
        raise ValueError(
            f"What the model {name!r} was trained with is not known, because it has no name of the registry. Give the "
            "one it was built from, such as name='vit_b16', or with its weights, such as "
            f"name='vit_b16.augreg_in21k'. ({error})"
        ) from error
    return find_weights(name, weights or tag) if weights or tag else entry


def _array(images) -> np.ndarray:
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ValueError(
            f"Images of different sizes do not fit in one array; give them one at a time. ({error})"
        ) from error
    if array.dtype.kind not in "uif":
        raise ValueError(f"Images are arrays of uint8, or of floats in [0, 255]; received {array.dtype}.")
    return array


def _check(images, channels: int) -> None:
    shape = tuple(images.shape)
    if len(shape) not in (3, 4) or None in shape[-3:]:
        raise ValueError(
            f"Images are (batch, height, width, channels) or (height, width, channels) of known size; received {shape}."
            + (
                " A grayscale image becomes one of three channels by np.stack([image] * 3, -1)."
                if len(shape) == 2
                else ""
            )
        )
    if shape[-1] != channels:
        mend = {
            (1, 3): " Repeat the gray channel: np.repeat(images, 3, axis=-1).",
            (4, 3): " Leave out the alpha channel: images[..., :3].",
        }.get((shape[-1], channels), "")
        raise ValueError(f"The model takes images of {channels} channels; received {shape}.{mend}")
    if min(shape) < 1:
        raise ValueError(f"There is nothing in images of shape {shape}.")
    if not isinstance(images, np.ndarray):
        return
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        raise ValueError(f"Images are in [0, 255]; received values from {low} to {high}.")
    if images.dtype.kind == "f" and 0 < high <= 1 and np.any(images % 1):
        raise ValueError("Images are in [0, 255]; these seem to be in [0, 1]: multiply them by 255.")
