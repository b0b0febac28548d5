"""Read image files, decode and crop them, and record those that can't be decoded."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from keras_vit.training.lazy_modules import tf
from keras_vit.utils.missing import needs

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
_MODES = {1: "L", 3: "RGB"}
_log = logging.getLogger("keras_vit.training")

# What an image can be before it is decoded: a file's path, its content, or an array (height, width, channels), uint8.
Content = str | bytes | np.ndarray


def read_file(path: str) -> bytes:
    """Return the content of a file, which may be on Google Cloud Storage.

    Raises:
        OSError: It can't be read.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def open_image(content: Content, channels: int):
    """Return a Pillow image of 1 or 3 channels, completely decoded.

    Files are of the formats JPEG, PNG, BMP, GIF (its first picture) and WebP.

    Raises:
        OSError: It can't be read or decoded.
    """
    with needs("Pillow", "the decoding of images", "train"):
        from PIL import Image, UnidentifiedImageError
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content[..., 0] if content.shape[-1] == 1 else content)
        return image.convert(_MODES[channels])
    try:
        file = io.BytesIO(read_file(content) if isinstance(content, str) else content)
        return Image.open(file, formats=_FORMATS).convert(_MODES[channels])
    except UnidentifiedImageError as error:
        raise OSError(f"no image of the formats {', '.join(_FORMATS)}") from error
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:  # A damaged PNG is a SyntaxError.
        raise OSError(str(error)) from error


class CorruptImages:
    """Record images that can't be decoded: each is logged once, and too many of them are an error.

    Args:
        limit: How many may be skipped.

    Attributes:
        found: Name and reason of each.
    """

    def __init__(self, limit: int):
        if limit < 0:
            raise ValueError(f"max_corrupt is at least 0; received {limit}.")
        self.limit = limit
        self.found: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, name: str, error: OSError) -> None:
        """Record an image.

        Raises:
            ValueError: There are more than the limit.
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
        read: See `Source.read`.
        crops: One a view; each is called with a Pillow image, a size and a random generator.
        corrupt: Takes the images that can't be decoded.
        channels: 1 or 3.

    Returns:
        A function of the tensors of a reference, the sizes of the views (views,) and a seed (2,) that gives the
        views (size, size, channels), uint8; the class, int64; and whether the image is sound. The views of one that
        is not are black.
    """

    def load(*arguments):
        *reference, sizes, seed = arguments
        content, label, name = read(*reference)
        try:
            image = open_image(content, channels)
        except OSError as error:
            corrupt.add(name, error)
            return *(np.zeros((size, size, channels), np.uint8) for size in sizes), np.int64(label), False
        rng = np.random.default_rng(seed)
        views = (crop(image, int(size), rng) for crop, size in zip(crops, sizes, strict=True))
        return *(view.reshape(*view.shape[:2], channels) for view in views), np.int64(label), True

    def step(reference, sizes, seed):
        # Declared stateless, since the result depends on the arguments alone: TensorFlow's deterministic mode runs
        # what is stateful on one core.
        *views, label, sound = tf.numpy_function(
            load, [*reference, sizes, seed], [tf.uint8] * len(crops) + [tf.int64, tf.bool], stateful=False
        )
        return tuple(views), tf.ensure_shape(label, ()), tf.ensure_shape(sound, ())

    return step
