"""Images as calibration and verification take them: a NumPy array, or a tf.data dataset of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_ACCEPTED = "a NumPy array (N, H, W, C) or a tf.data dataset of image batches or (image, label) batches"


def image_batches(
    images: Any, shape: Sequence[int | None], batch: int = 32
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Gives images batch by batch, each one checked.

    Args:
        images: a NumPy array (N, H, W, C), or a finite tf.data dataset of such batches, alone or with labels.
        shape: (H, W, C) of the images wanted; None stands for any size.
        batch: how many images of an array make a batch; a dataset's batches stay as they are.

    Yields:
        (images, labels): float32 (n, H, W, C), and the labels as the dataset has them or None.

    Raises:
        TypeError: `images` is neither an array nor a dataset, or its numbers are neither floats nor integers.
        ValueError: there are no images or endlessly many, or one has another shape or a value not finite.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be 1 or more.")
    shape = tuple(shape)
    if isinstance(images, np.ndarray):
        _check_kind(images, shape)
    seen = 0
    for pixels, labels in _parts(images, batch):
        _check_kind(pixels, shape)
        pixels = pixels.astype(np.float32, copy=False)
        _check_finite(pixels, seen)
        yield pixels, labels
        seen += len(pixels)
    if not seen:
        raise ValueError("There are no images: the array or dataset is empty.")


def _parts(images: Any, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    if isinstance(images, np.ndarray):
        yield from ((images[first : first + batch], None) for first in range(0, len(images), batch))
        return
    if not hasattr(images, "as_numpy_iterator"):
        raise TypeError(f"images is a {type(images).__name__}; it must be {_ACCEPTED}.")
    if int(images.cardinality()) == -1:
        raise ValueError("The dataset of images never ends; give it an end with .take(batches).")
    for element in images.as_numpy_iterator():
        pixels, labels, *_ = (*element, None) if isinstance(element, tuple) else (element, None)
        if not isinstance(pixels, np.ndarray):
            raise TypeError(f"The dataset's images are of type {type(pixels).__name__}; they must be arrays.")
        yield pixels, labels


def _check_kind(pixels: np.ndarray, shape: tuple[int | None, ...]) -> None:
    if pixels.ndim != 1 + len(shape) or any(
        want not in (None, size) for want, size in zip(shape, pixels.shape[1:], strict=True)
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"Images must come in batches of shape (N, {wanted}); received {pixels.shape}.")
    if pixels.dtype.kind not in "fiu":
        raise TypeError(f"Images must be floats or integers; received dtype {pixels.dtype}.")


def _check_finite(pixels: np.ndarray, first: int) -> None:
    """`first` is the index of the batch's first image."""
    finite = np.isfinite(pixels)
    if not finite.all():
        image, row, column, channel = (int(index) for index in np.argwhere(~finite)[0])
        raise ValueError(
            f"Image {first + image} holds {pixels[image, row, column, channel]} at row {row}, "
            f"column {column}, channel {channel}; every value must be finite."
        )
