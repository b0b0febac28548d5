"""Training: data, the recipes' optimizer, and a `fit` that can be interrupted and continued exactly."""

from keras_vit.training.augment import (
    Augmentation,
    AutoAugment,
    CentreCrop,
    ColorJitter,
    RandAugment,
    RandomResizedCrop,
    SimpleRandomCrop,
    ThreeAugment,
    multi_crop,
)
from keras_vit.training.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
from keras_vit.training.checkpoint import TrainingCheckpoint
from keras_vit.training.data import (
    ImageData,
    MultiScale,
    Pipeline,
    arrays,
    csv_images,
    digits,
    image_folder,
    tfds_images,
    tfrecords,
    write_tfrecords,
)
from keras_vit.training.optimizers import adamw
from keras_vit.training.trainer import TrainingResult, fit, gives_logits

__all__ = [
    "Augmentation",
    "AutoAugment",
    "BestModel",
    "CentreCrop",
    "ColorJitter",
    "EpochLog",
    "ImageData",
    "MultiScale",
    "Pipeline",
    "RandAugment",
    "RandomResizedCrop",
    "SimpleRandomCrop",
    "StopAtNonFiniteLoss",
    "ThreeAugment",
    "TrainingCheckpoint",
    "TrainingResult",
    "adamw",
    "arrays",
    "csv_images",
    "digits",
    "fit",
    "gives_logits",
    "image_folder",
    "multi_crop",
    "tfds_images",
    "tfrecords",
    "write_tfrecords",
]
