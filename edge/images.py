"""The images that calibration and verification take: a NumPy array, or a tf.data dataset of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

_ACCEPTED = "a NumPy array (N, H, W, C) or a tf.data dataset of image batches or (image, label) batches"


def image_batches(
    images: Any, shape: Sequence[int | None], batch_size: int = 32, model: keras.Model | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Iterate over images in batches, and check each of them.

    Args:
        images: A NumPy array (N, H, W, C), or a finite tf.data dataset of such batches, with or without labels.
        shape: The shape (H, W, C) that the images must have; None allows any size.
        batch_size: Images per batch of an array. The batches of a dataset are taken as they are.
        model: The Keras model that takes the images, if there is one. Datasets of `keras_vit.training` are normalized
            for it, and the range of other images is checked.

    Yields:
        (images, labels): float32 images (n, H, W, C), and the dataset's labels or None.

    Raises:
        TypeError: `images` is neither an array nor a dataset, or its values are neither floats nor integers.
        ValueError: There are no images or infinitely many, one has another shape or a value that is not finite, or the
            model takes images in another range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; received {batch_size}.")
    shape = tuple(shape)
    if isinstance(images, np.ndarray):
        _check_kind(images, shape)
    if model is not None:
        from keras_vit.models.model_images import check_range, prepared_for  # Imports Keras, which files do not need.

        images = prepared_for(images, model)
    seen = 0
    for pixels, labels in _parts(images, batch_size):
        _check_kind(pixels, shape)
        _check_finite(pixels, seen)
        if model is not None and not seen:
            check_range(pixels, model)
        pixels = pixels.astype(np.float32, copy=False)
        yield pixels, labels
        seen += len(pixels)
    if not seen:
        raise ValueError("There are no images: the array or dataset is empty.")


def _parts(images: Any, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    if isinstance(images, np.ndarray):
        yield from ((images[first : first + batch_size], None) for first in range(0, len(images), batch_size))
        return
    if not hasattr(images, "as_numpy_iterator"):
        raise TypeError(f"images must be {_ACCEPTED}; received a {type(images).__name__}.")
    if int(images.cardinality()) == -1:
        raise ValueError("The dataset of images is infinite; limit it with .take(batches).")
    for element in images.as_numpy_iterator():
        pixels, labels, *_ = (*element, None) if isinstance(element, tuple) else (element, None)
        if not isinstance(pixels, np.ndarray):
            raise TypeError(f"The dataset's images must be arrays; received {type(pixels).__name__}.")
        yield pixels, labels


def _check_kind(pixels: np.ndarray, shape: tuple[int | None, ...]) -> None:
    if pixels.ndim != 1 + len(shape) or any(
        wanted not in (None, size) for wanted, size in zip(shape, pixels.shape[1:], strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"Images must come in batches of shape (N, {wanted}); received {pixels.shape}.")
    if pixels.dtype.kind not in "fiu":
        raise TypeError(f"Images must be floats or integers; received dtype {pixels.dtype}.")


def _check_finite(pixels: np.ndarray, first: int) -> None:
    """Raise if a value is not finite; `first` is the index of the batch's first image."""
    finite = np.isfinite(pixels)
    if not finite.all():
        image, row, column, channel = (int(index) for index in np.argwhere(~finite)[0])
        raise ValueError(
            f"Image {first + image} has the value {pixels[image, row, column, channel]} at row {row}, "
            f"column {column}, channel {channel}; all values must be finite."
        )
