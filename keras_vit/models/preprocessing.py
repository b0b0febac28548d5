"""Prepare images for a model: resize, crop and normalize them as in its evaluation."""

import math
import os
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit.models.image_facts import Statistics
from keras_vit.models.model_images import image_facts, normalizes_images, published_facts
from keras_vit.utils.pictures import open_picture


def preprocess_input(
    images: Any, model: keras.Model | str, weights: str | None = None, *, name: str | None = None
) -> Any:
    """Resize, center-crop and normalize images as a model's evaluation does.

    Args:
        images: Images (batch, height, width, channels), or one image (height, width, channels), of any size, with
            values in [0, 255], as a NumPy array or a tensor of known shape. Or a picture: the path of an image file, or
            a Pillow image of any mode, see `keras_vit.utils.pictures.open_picture`. Or a list of these, whose sizes may
            differ.
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
        FileNotFoundError: There is no such picture.
        ValueError: The images have an unsuitable shape, type or range, a picture can't be decoded, or it is not known
            how the model takes images.
    """
    if isinstance(model, str):
        size, facts = published_facts(name or model, weights)
        channels, normalizes = 3, False
    else:
        size, channels = tuple(model.input_shape[1:3]), model.input_shape[3]
        facts = published_facts(name or model.name, weights)[1] if name or weights else image_facts(model)
        normalizes = normalizes_images(model)

    def prepare(x):
        cropped = resize_and_crop(x, size, facts.crop_fraction, facts.interpolation)
        return normalize(cropped, None if normalizes else facts.statistics)

    if _is_list_of_images(images):
        prepared = [preprocess_input(image, model, weights, name=name) for image in images]
        if any(map(ops.is_tensor, prepared)):
            return ops.stack(prepared)
        return np.stack(prepared) if prepared else np.zeros((0, *size, channels), "float32")
    is_tensor = ops.is_tensor(images)
    if not is_tensor:
        images = _array(images, channels)
    _check(images, channels)
    if len(images.shape) == 3:
        x = prepare(images[None])[0]
    elif images.shape[0] == 0:
        x = np.zeros((0, *size, channels), "float32")
    else:
        x = prepare(images)
    return ops.convert_to_tensor(x) if is_tensor else ops.convert_to_numpy(x)


def normalize(images, statistics: Statistics | None):
    """Normalize images (..., channels) in [0, 255] by statistics; None returns them as they are."""
    if statistics is None:
        return images
    scale, offset = statistics.scale_and_offset(images.shape[-1])
    return images * ops.convert_to_tensor(scale, "float32") + ops.convert_to_tensor(offset, "float32")


def _is_list_of_images(images):
    """Return whether images are given one by one, rather than as one array or as nested lists of numbers."""
    return isinstance(images, (list, tuple)) and all(
        _is_picture(image) or len(getattr(image, "shape", ())) == 3 for image in images
    )


def _is_picture(image):
    """Return whether an object is a path or a Pillow image, which have no `shape`. Pillow need not be installed."""
    return isinstance(image, (str, os.PathLike)) or hasattr(image, "getbands")


def resize_and_crop(images, size: tuple[int, ...], crop_fraction: float, interpolation: str):
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


def _array(images, channels: int) -> np.ndarray:
    if _is_picture(images):
        image = np.asarray(open_picture(images, channels))
        return image[..., None] if image.ndim == 2 else image
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ValueError(
            "Nested lists of numbers must have the same length; pass images of different sizes as a list of arrays. "
            f"({error})"
        ) from error
    if array.dtype.kind not in "uif":
        raise ValueError(
            "Images must be paths, Pillow images, or arrays of uint8 or of floats in [0, 255]; received "
            f"{array.dtype if array.ndim else type(images).__name__}."
        )
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
    if min(shape[-3:]) < 1:
        raise ValueError(f"Images must have at least one pixel; received the shape {shape}.")
    if not isinstance(images, np.ndarray) or not images.size:
        return
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        raise ValueError(f"Images must be in [0, 255]; received values from {low} to {high}.")
    if images.dtype.kind == "f" and 0 < high <= 1 and np.any(images % 1):
        raise ValueError("Images must be in [0, 255]; these seem to be in [0, 1]: multiply them by 255.")
