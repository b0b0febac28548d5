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
    seen = 0
    for part in _parts(images, batch):
        pixels, labels = part if isinstance(part, tuple) else (part, None)
        yield _checked(np.asarray(pixels), tuple(shape), seen), labels
        seen += len(pixels)
    if not seen:
        raise ValueError("There are no images: the array or dataset is empty.")


def _parts(images: Any, batch: int) -> Iterator[Any]:
    """Batches, or pairs of batch and labels."""
    if isinstance(images, np.ndarray):
        if images.ndim == 0:
            raise TypeError(f"images is a single {images.dtype}; it must be {_ACCEPTED}.")
        yield from (images[first : first + batch] for first in range(0, len(images), batch))
        return
    if not hasattr(images, "as_numpy_iterator"):
        raise TypeError(f"images is a {type(images).__name__}; it must be {_ACCEPTED}.")
    if int(images.cardinality()) == -1:
        raise ValueError("The dataset of images never ends; give it an end with .take(batches).")
    for part in images.as_numpy_iterator():
        if isinstance(part, tuple):
            part = (part[0], part[1] if len(part) > 1 else None)
        elif not isinstance(part, np.ndarray):
            raise TypeError(
                f"The dataset's elements are of type {type(part).__name__}; images must be {_ACCEPTED}."
            )
        yield part


def _checked(pixels: np.ndarray, shape: tuple[int | None, ...], first: int) -> np.ndarray:
    """The batch as float32, if its images have the shape and are finite; `first` is the first one's index."""
    fits = pixels.ndim == 4 and all(
        want in (None, size) for want, size in zip(shape, pixels.shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"Images must come in batches of shape (N, {wanted}); received {pixels.shape}.")
    if pixels.dtype.kind not in "fiu":
        raise TypeError(f"Images must be floats or integers; received dtype {pixels.dtype}.")
    pixels = pixels.astype(np.float32, copy=False)
    finite = np.isfinite(pixels)
    if not finite.all():
        image, row, column, channel = (int(index) for index in np.argwhere(~finite)[0])
        value = pixels[image, row, column, channel]
        raise ValueError(
            f"Image {first + image} holds {value} at row {row}, column {column}, channel {channel}; "
            "every value must be finite."
        )
    return pixels
