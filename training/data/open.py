"""Load image data from a source given as one string, as on the command line."""

import os

from keras_vit.training.data.folder import image_folder
from keras_vit.training.data.handwritten_digits import digit_views, digits
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.manifest import csv_images
from keras_vit.training.data.pipeline import Pipeline
from keras_vit.training.data.tfds import tfds_images
from keras_vit.training.data.tfrecord import tfrecords

LISTS = (".csv", ".tsv", ".txt")  # Endings of the files that `csv_images` opens.
SOURCES = "digits, FOLDER (of class folders), FILE.csv, tfds:NAME or tfrecords:FOLDER"


def open_data(source: str, **pipeline) -> ImageData:
    """Load images from a source given as a string.

    Args:
        source: "digits"; a folder of class folders, see `image_folder`; a file name that ends in ".csv", ".tsv" or
            ".txt", see `csv_images`; "tfds:NAME", see `tfds_images`; or "tfrecords:FOLDER", a local folder or one on
            Google Cloud Storage, with files named train-* and validation-* as written by `write_tfrecords`.
        pipeline: Arguments of `Pipeline`. For "digits", only `image_size`, `batch_size`, `seed`, `statistics` and
            whether `augmentation` is None have an effect, unless it has several views.

    Returns:
        Image data to train on.

    Raises:
        ValueError: If the source is none of these, or its data is invalid.
        OSError: If the source can't be read.
    """
    kind, colon, name = source.partition(":")
    if source == "digits":
        asked = Pipeline(**{"image_size": 32, **pipeline})
        if len(asked.views) > 1:
            return digit_views(**pipeline)
        return digits(asked.image_size, asked.batch_size, asked.seed, asked.augmentation is not None, asked.statistics)
    if colon and kind == "tfds":
        return tfds_images(name, **pipeline)
    if colon and kind == "tfrecords":
        return tfrecords(f"{name.rstrip('/')}/train-*", f"{name.rstrip('/')}/validation-*", **pipeline)
    if source.lower().endswith(LISTS):
        return csv_images(source, **pipeline)
    if os.path.isdir(source):
        return image_folder(source, **pipeline)
    raise ValueError(f"Data must be {SOURCES}; there is no folder {source!r}.")
