"""Load image data for training from folders, CSV files, TFRecord files, NumPy arrays and TensorFlow Datasets."""

from keras_vit.models.image_facts import Statistics
from keras_vit.training.data.folder import image_folder
from keras_vit.training.data.for_evaluation import EvaluationData, evaluation_data
from keras_vit.training.data.handwritten_digits import digits
from keras_vit.training.data.image_data import ImageData
from keras_vit.training.data.manifest import csv_images
from keras_vit.training.data.numpy_arrays import arrays
from keras_vit.training.data.open import open_data
from keras_vit.training.data.pipeline import MultiScale, Pipeline
from keras_vit.training.data.tfds import tfds_images
from keras_vit.training.data.tfrecord import tfrecords, write_tfrecords

__all__ = [
    "EvaluationData",
    "ImageData",
    "MultiScale",
    "Pipeline",
    "Statistics",
    "arrays",
    "csv_images",
    "digits",
    "evaluation_data",
    "image_folder",
    "open_data",
    "tfds_images",
    "tfrecords",
    "write_tfrecords",
]
