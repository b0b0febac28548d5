"""Load image data named by one string, as on a command line."""

import os

from keras_vit.training.data.folder import image_folder
from keras_vit.training.data.handwritten_digits import digits
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.manifest import csv_images
from keras_vit.training.data.pipeline import Pipeline
from keras_vit.training.data.tfds import tfds_images
from keras_vit.training.data.tfrecord import tfrecords

SOURCES = "digits, FOLDER (of class folders), FILE.csv, tfds:NAME or tfrecords:FOLDER"


def open_data(source: str, **pipeline) -> ImageData:
    """Load images from a source that a string names.

    Args:
        source: "digits"; a folder of class folders, see `image_folder`; a file that ends in ".csv", see `csv_images`;
            "tfds:NAME", see `tfds_images`; or "tfrecords:FOLDER", whose files are called train-* and validation-*, as
            `write_tfrecords` names them, and which may be one of Google Cloud Storage.
        pipeline: Arguments of `Pipeline`. The digits use its size, batch size and seed, and whether there is an
            augmentation.

    Raises:
        ValueError: The source is none of these, or its data are invalid.
        OSError: It can't be read.
    """
    kind, colon, name = source.partition(":")
    if source == "digits":
        asked = Pipeline(**{"image_size": 32, "statistics": None, **pipeline})
        return digits(asked.image_size, asked.batch_size, asked.seed, augment=asked.augmentation is not None)
    if colon and kind == "tfds":
        return tfds_images(name, **pipeline)
    if colon and kind == "tfrecords":
        return tfrecords(f"{name.rstrip('/')}/train-*", f"{name.rstrip('/')}/validation-*", **pipeline)
    if source.endswith(".csv"):
        return csv_images(source, **pipeline)
    if os.path.isdir(source):
        return image_folder(source, **pipeline)
    raise ValueError(f"Data must be {SOURCES}; there is no folder {source!r}.")
