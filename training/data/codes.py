"""Codes of the training images that are read from a file, such as those of another project's tokenizer."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from keras_vit.training.augment.augmentation import Augmentation
from keras_vit.training.augment.crops import CenterCrop
from keras_vit.training.data.decode import Content
from keras_vit.training.data.source import ListSource, Source
from keras_vit.training.lazy_modules import tf


class CodesFile:
    """Codes of the patches of each training image, which methods such as BEiT predict.

    Args:
        path: An .npy file with an array (images, rows, columns) or (images, patches) of integers, which is read as it
            is needed. Its first row belongs to the first training image, in the order of the source: of the rows of
            arrays or a CSV file, or of the names in a folder. Or an .npz file with such an array "codes" and an array
            "names" of the images' names, such as "cats/1.jpg"; it may have further images.
        source: The training images.
        views: The augmentation of the images. The codes belong to a certain crop, so it must not move the pixels.

    Attributes:
        settings: Properties that distinguish the codes from others, as JSON types.

    Raises:
        OSError: If the file can't be read.
        ValueError: If the codes are not integers of at least 0, do not belong to the images, or the augmentation moves
            the pixels.
    """

    def __init__(self, path: str, source: Source, views: Sequence[Augmentation]):
        path = os.fspath(path)
        if not isinstance(source, ListSource):
            raise ValueError(
                f"Codes from a file need images that are in a list, such as those of a folder, a CSV file or arrays; "
                f"those of {source.settings['source']} are in a stream."
            )
        if len(views) != 1 or views[0].flip or views[0].mixes or not isinstance(views[0].crop, CenterCrop):
            raise ValueError(
                f"The codes in {path!r} belong to one crop of each image, so random crops, flips, mixed images and "
                "several views do not fit; create the data with augmentation=None or with "
                "Augmentation(CenterCrop(), flip=0.0, ...)."
            )
        self._source = source
        self._codes = _by_name(path, source.names) if path.endswith(".npz") else np.load(path, mmap_mode="r")
        if len(self._codes) != source.size:
            raise ValueError(
                f"{path!r} has the codes of {len(self._codes)} images, but there are {source.size} training images "
                f"({source.origin}). An .npz file with the images' names may have others."
            )
        if self._codes.ndim < 2 or self._codes.dtype.kind not in "iu" or self._codes.min() < 0:
            raise ValueError(
                f"{path!r} must have integers of at least 0, of shape (images, rows, columns); received "
                f"{self._codes.dtype} of shape {self._codes.shape}."
            )
        self.settings = {"path": path, "shape": list(self._codes.shape), "largest": int(self._codes.max())}

    def read(self, index: int) -> tuple[Content, int, str]:
        """Return an image, its index instead of its class, and its name, see `Source.read`."""
        content, _, name = self._source.read(index)
        return content, int(index), name

    def classes_and_codes(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the classes (batch,), int64, and the codes (batch, patches), int32, of images."""

        def rows(indices):
            return self._codes[indices].reshape(len(indices), -1).astype("int32")

        codes = tf.numpy_function(rows, [indices], tf.int32, stateful=False)
        patches = int(np.prod(self._codes.shape[1:]))
        return tf.gather(self._source.labels, indices), tf.ensure_shape(codes, (None, patches))


def _by_name(path, names):
    with np.load(path) as file:
        if not {"codes", "names"} <= set(file):
            raise ValueError(f"{path!r} must have the arrays codes and names; it has {', '.join(file)}.")
        codes, rows = file["codes"], {str(name): row for row, name in enumerate(file["names"])}
    missing = [name for name in names if name not in rows]
    if missing or len(rows) != len(codes):
        raise ValueError(
            f"{path!r} must have one name for each of its {len(codes)} rows, and each of the {len(names)} training "
            f"images; it has {len(rows)} names"
            + (f", and {len(missing)} images are missing, such as {missing[0]!r}." if missing else ".")
        )
    return codes[[rows[name] for name in names]]
