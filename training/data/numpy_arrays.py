"""Load images from NumPy arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.labels import Classes
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import ListSource


def arrays(
    images: np.ndarray,
    labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    validation: tuple[np.ndarray, Any] | None = None,
    validation_fraction: float = 0.1,
    **pipeline,
) -> ImageData:
    """Create image data from NumPy arrays.

    Args:
        images: Images of shape (images, height, width, channels) with 1 or 3 channels: uint8 in [0, 255], or floats in
            [0, 1], which are rounded to 8 bits.
        labels: Classes of the images, of shape (images,) or (images, 1): integers, whole floats, booleans or strings.
            Or one-hot, of shape (images, classes). Without `class_names`, the classes are the sorted values.
        class_names: Name of each class. Labels are then names, or numbers of classes that count from 0, or from 1 if
            the highest label is the number of classes. If None, the values of the labels.
        validation: Validation images and labels.
        validation_fraction: Fraction of each class to use for validation if `validation` is None.
        pipeline: Arguments of `Pipeline`. By default, `image_size` is the shorter side of the images and `channels` is
            their number of channels.

    Returns:
        Image data to train on.

    Raises:
        ValueError: If shapes, values or labels are not as described above, or a class has no image.
    """
    images = _checked(images, labels)
    classes = Classes(labels, class_names, "arrays", _row)
    sources = [_source(images, classes.numbers, classes.names, "arrays").with_every_class()]
    if validation is None:
        sources = sources[0].split(validation_fraction)
    else:
        more_images, more_labels = validation
        more_images = _checked(more_images, more_labels)
        numbers = classes.numbers_of(more_labels, "validation arrays", _row)
        sources.append(_source(more_images, numbers, classes.names, "validation arrays"))
    pipeline.setdefault("image_size", min(images.shape[1:3]))
    pipeline.setdefault("channels", images.shape[-1])
    return image_data(*sources, **pipeline)


def _row(index: int) -> str:
    return f"row {index}"


def _checked(images, labels) -> np.ndarray:
    try:
        images = np.asarray(images)
    except ValueError as error:
        raise ValueError(
            f"Images of different sizes don't fit into one array; resize them, or use training.image_folder. ({error})"
        ) from error
    if images.ndim == 3 and len(images) == len(labels):
        raise ValueError(
            f"Grayscale images need a last axis with one channel: images[..., None]; received {images.shape}."
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        hint = " Leave out the alpha channel: images[..., :3]." if images.ndim == 4 and images.shape[-1] == 4 else ""
        raise ValueError(f"Images must have the shape (images, height, width, 1 or 3); received {images.shape}.{hint}")
    if len(labels) != len(images):
        raise ValueError(f"There must be one label for each of the {len(images)} images; received {len(labels)}.")
    if images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1:
        images = np.round(images * 255).astype("uint8")
    if images.dtype != np.uint8:
        raise ValueError(
            f"Images must be uint8 in [0, 255] or floats in [0, 1]; received {images.dtype} in "
            f"[{images.min()}, {images.max()}]."
        )
    return images


def _source(images, labels, class_names, origin):
    return ListSource(images, labels, [f"image {index}" for index in range(len(images))], class_names, origin)
