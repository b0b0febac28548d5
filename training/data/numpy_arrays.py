"""Load images from NumPy arrays."""

from collections.abc import Sequence

import numpy as np

from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.pipeline import image_data
from keras_vit.training.data.source import ListSource


def arrays(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    class_names: Sequence[str] | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    validation_fraction: float = 0.1,
    **pipeline,
) -> ImageData:
    """Create image data from NumPy arrays.

    Args:
        images: Images of shape (images, height, width, channels) with 1 or 3 channels: uint8 in [0, 255], or floats in
            [0, 1], which are rounded to 8 bits.
        labels: Classes of the images, of shape (images,), integers that count from 0.
        class_names: Name of each class. If None, the class numbers.
        validation: Validation images and labels.
        validation_fraction: Fraction of each class to use for validation if `validation` is None.
        pipeline: Arguments of `Pipeline`. By default, `image_size` is the shorter side of the images and `channels` is
            their number of channels.

    Returns:
        Image data to train on.

    Raises:
        ValueError: If shapes, values or labels are not as described above, or a class has no image.
    """
    images, labels = _checked(images, labels)
    if class_names is None:
        class_names = [str(number) for number in range(labels.max() + 1)]
    sources = [_source(images, labels, class_names, "arrays").with_every_class()]
    if validation is None:
        sources = sources[0].split(validation_fraction)
    else:
        more_images, more_labels = _checked(*validation)
        sources.append(_source(more_images, more_labels, class_names, "validation arrays"))
    pipeline.setdefault("image_size", min(images.shape[1:3]))
    pipeline.setdefault("channels", images.shape[-1])
    return image_data(*sources, **pipeline)


def _checked(images, labels):
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(f"Images must have the shape (images, height, width, 1 or 3); received {images.shape}.")
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"Labels must be one integer of at least 0 for each of the {len(images)} images; "
            f"received {labels.dtype} of shape {labels.shape}."
        )
    if images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1:
        images = np.round(images * 255).astype("uint8")
    if images.dtype != np.uint8:
        raise ValueError(
            f"Images must be uint8 in [0, 255] or floats in [0, 1]; received {images.dtype} in "
            f"[{images.min()}, {images.max()}]."
        )
    return images, labels


def _source(images, labels, class_names, origin):
    if labels.max() >= len(class_names):
        raise ValueError(f"Labels must be below the number of classes, {len(class_names)}; received {labels.max()}.")
    return ListSource(images, labels, [f"image {index}" for index in range(len(images))], class_names, origin)
