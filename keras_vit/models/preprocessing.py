"""Prepare images for a model: resize, crop and normalize them as in its evaluation."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit.layers import Preprocessing
from keras_vit.models.image_facts import ImageFacts, Statistics
from keras_vit.models.registry import find_weights, variant


def preprocess_input(
    images: Any, model: keras.Model | str, weights: str | None = None, *, name: str | None = None
) -> Any:
    """Resize, center-crop and normalize images as a model's evaluation does.

    Args:
        images: Images (batch, height, width, channels), or one image (height, width, channels), of any size, with
            values in [0, 255]. Either a NumPy array, a tensor of known shape, or an object that NumPy converts to an
            array, such as a Pillow image.
        model: A model or a registry name. The images are resized to the input size of the model, or to the published
            size for a name. A model of keras_vit carries the facts about its images (see `image_facts`), even inside
            another model or under another name. If it was built with `include_preprocessing`, the images stay in
            [0, 255], because the model normalizes them.
        weights: Tag of published weights, for a registry name, or to override the facts that the model carries.
        name: Registry name, optionally followed by a dot and a tag, to override the facts that the model carries.

    Returns:
        float32 images (batch, *size, channels), or (*size, channels) for one image, as a tensor if `images` is a tensor
        and as a NumPy array otherwise.

    Raises:
        ValueError: The images have an unsuitable shape, type or range, or it is not known how the model takes images.
    """
    if isinstance(model, str):
        size, facts = _published(name or model, weights)
        channels, normalizes = 3, False
    else:
        size, channels = model.input_shape[1:3], model.input_shape[3]
        normalizes = normalizes_images(model)
        facts = _published(name or model.name, weights)[1] if name or weights else image_facts(model)

    is_tensor = ops.is_tensor(images)
    if not is_tensor:
        images = _array(images)
    _check(images, channels)
    is_single = len(images.shape) == 3
    x = resize_and_crop(images[None] if is_single else images, size, facts.crop_fraction, facts.interpolation)
    if not normalizes:
        scale, offset = facts.statistics.scale_and_offset(channels)
        x = x * ops.convert_to_tensor(scale, "float32") + ops.convert_to_tensor(offset, "float32")
    x = x[0] if is_single else x
    return x if is_tensor else ops.convert_to_numpy(x)


def image_facts(model: keras.Model) -> ImageFacts:
    """Return how a model takes its images.

    A model of keras_vit carries these facts, whatever its name, and they are saved with it. For other models, they are
    those of the published model of the same name.

    Args:
        model: A model of keras_vit, or a model that contains one. It may be flattened, fused, resized or quantized.

    Raises:
        ValueError: No builder of keras_vit made the model, and its name is not in the registry.
    """
    layer = _facts_layer(model)
    if layer is None:
        return _published(model.name, None)[1]
    return ImageFacts(Statistics(layer.mean, layer.std), layer.crop_fraction, layer.interpolation, layer.source)


def normalizes_images(model: keras.Model) -> bool:
    """Return whether a model takes images in [0, 255] and normalizes them itself (`include_preprocessing`)."""
    layer = _facts_layer(model)
    return layer is not None and layer.normalize


def _facts_layer(model) -> Preprocessing | None:
    for layer in model.layers:
        if isinstance(layer, Preprocessing):
            return layer
        if isinstance(layer, keras.Model) and (inner := _facts_layer(layer)) is not None:
            return inner
    return None


def _published(name: str, weights: str | None) -> tuple[tuple[int, int], ImageFacts]:
    """Return the image size and the image facts of a registry name, or of its weights with a tag."""
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


def resize_and_crop(images, size: tuple[int, int], crop_fraction: float, interpolation: str):
    """Resize images with anti-aliasing and crop their center, as evaluation does.

    The aspect ratio is kept: an image is resized so that it just covers `size / crop_fraction`. For a square size, the
    shorter side becomes `floor(side / crop_fraction)` pixels, as in timm and torchvision.

    Args:
        images: (batch, height, width, channels) in [0, 255].
        size: (height, width) in pixels.
        crop_fraction: Fraction of the resized image's side that is kept.
        interpolation: "bicubic" or "bilinear".

    Returns:
        float32 (batch, *size, channels) in [0, 255].
    """
    covered = [math.floor(side / crop_fraction) for side in size]
    before = images.shape[1:3]
    tight = 0 if covered[0] * before[1] > covered[1] * before[0] else 1  # The axis that just covers the size.
    resized = [side * covered[tight] // before[tight] for side in before]
    images = ops.cast(images, "float32")
    if resized != list(before):
        images = ops.image.resize(
            images, resized, interpolation=interpolation, antialias=True, data_format="channels_last"
        )
    top, left = (round((whole - side) / 2) for whole, side in zip(resized, size, strict=True))
    images = images[:, top : top + size[0], left : left + size[1]]
    return ops.clip(images, 0.0, 255.0)  # Bicubic interpolation overshoots at edges.


def _array(images) -> np.ndarray:
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ValueError(
            f"Images of different sizes do not fit in one array; pass them one at a time. ({error})"
        ) from error
    if array.dtype.kind not in "uif":
        raise ValueError(f"Images must be arrays of uint8, or of floats in [0, 255]; received {array.dtype}.")
    return array


def _check(images, channels: int) -> None:
    shape = tuple(images.shape)
    if len(shape) not in (3, 4) or None in shape[-3:]:
        raise ValueError(
            "Images must have the shape (batch, height, width, channels) or (height, width, channels), with a known "
            f"size; received {shape}."
            + (" Give a grayscale image three channels: np.stack([image] * 3, -1)." if len(shape) == 2 else "")
        )
    if shape[-1] != channels:
        hint = {
            (1, 3): " Repeat the gray channel: np.repeat(images, 3, axis=-1).",
            (4, 3): " Leave out the alpha channel: images[..., :3].",
        }.get((shape[-1], channels), "")
        raise ValueError(f"The model takes images with {channels} channels; received {shape}.{hint}")
    if min(shape) < 1:
        raise ValueError(f"Images must not be empty; received the shape {shape}.")
    if not isinstance(images, np.ndarray):
        return
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        raise ValueError(f"Images must be in [0, 255]; received values from {low} to {high}.")
    if images.dtype.kind == "f" and 0 < high <= 1 and np.any(images % 1):
        raise ValueError("Images must be in [0, 255]; these seem to be in [0, 1]: multiply them by 255.")
