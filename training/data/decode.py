"""Read, decode and crop image files, and record images that can't be decoded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from keras_vit.training.lazy_modules import tf
from keras_vit.utils.pictures import open_picture

_log = logging.getLogger("keras_vit.training")

# An image before decoding: the path of a file, its content, or a uint8 array of shape (height, width, channels).
Content = str | bytes | np.ndarray


def read_file(path: str) -> bytes:
    """Return the content of a file, which may be on Google Cloud Storage.

    Raises:
        OSError: If the file can't be read.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def open_image(content: Content, channels: int):
    """Decode an image completely and return it as a Pillow image, upright and in 8 bits.

    `keras_vit.utils.pictures.open_picture` describes what is done with each kind of picture.

    Args:
        content: Path or content of a file, or an array.
        channels: Number of channels of the result: 1 (grayscale) or 3 (RGB).

    Returns:
        A Pillow image.

    Raises:
        OSError: If the file can't be read.
        ValueError: If the image can't be decoded.
        ImportError: If Pillow is missing.
    """
    if isinstance(content, str):
        content = read_file(content)
    elif isinstance(content, np.ndarray):
        from PIL import Image

        return open_picture(Image.fromarray(content[..., 0] if content.shape[-1] == 1 else content), channels)
    return open_picture(content, channels)


class CorruptImages:
    """Record and log images that can't be decoded, and raise an error when there are too many.

    Args:
        limit: Largest number of images that may be skipped.

    Attributes:
        found: Reason for each image, by name.

    Raises:
        ValueError: If `limit` is negative.
    """

    def __init__(self, limit: int):
        if limit < 0:
            raise ValueError(f"max_corrupt must be at least 0; received {limit}.")
        self.limit = limit
        self.found: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, error: Exception) -> None:
        """Record an image; an image that is recorded again is neither logged nor counted again.

        Args:
            name: Name of the image.
            error: Why the image can't be decoded.

        Raises:
            ValueError: If more images than `limit` are recorded.
        """
        with self._lock:
            if name not in self.found:
                self.found[name] = str(error)
                _log.warning("Skipped %s, corrupt image %d: %s", name, len(self.found), error)
            if len(self.found) > self.limit:
                listed = "; ".join(f"{name} ({reason})" for name, reason in self.found.items())
                raise ValueError(
                    f"{len(self.found)} images can't be decoded, more than max_corrupt={self.limit}: {listed}. "
                    "Repair or remove them, or raise max_corrupt."
                )


def crops_of(read: Callable, crops: Sequence[Callable], corrupt: CorruptImages, channels: int) -> Callable:
    """Return a step of a tf.data pipeline that reads, decodes and crops one image.

    Args:
        read: Function that returns an image for a reference; see `Source.read`.
        crops: One crop per view; each is called with a Pillow image, a size and a random generator.
        corrupt: Record of the images that can't be decoded.
        channels: Number of channels, 1 or 3.

    Returns:
        A function that takes the tensors of a reference, the size of each view, of shape (views,), and a seed of shape
        (2,). It returns a tuple of views, each of shape (size, size, channels), uint8; the class, int64; and whether
        the image could be decoded, bool. If it could not, the views are black.
    """

    def load(*arguments):
        *reference, sizes, seed = arguments
        content, label, name = read(*reference)
        try:
            image = open_image(content, channels)
        except (OSError, ValueError) as error:
            corrupt.add(name, error)
            return *(np.zeros((size, size, channels), np.uint8) for size in sizes), np.int64(label), False
        rng = np.random.default_rng(seed)
        views = (crop(image, int(size), rng) for crop, size in zip(crops, sizes, strict=True))
        return *(view.reshape(*view.shape[:2], channels) for view in views), np.int64(label), True

    def step(reference, sizes, seed):
        # Declared stateless, since the result depends only on the arguments: in deterministic mode, TensorFlow runs
        # stateful functions on one core.
        *views, label, sound = tf.numpy_function(
            load, [*reference, sizes, seed], [tf.uint8] * len(crops) + [tf.int64, tf.bool], stateful=False
        )
        return tuple(views), tf.ensure_shape(label, ()), tf.ensure_shape(sound, ())

    return step
