"""Training: data, the recipes' optimizer, and a `fit` that can be interrupted and continued exactly."""

from keras_vit.training.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
from keras_vit.training.checkpoint import TrainingCheckpoint
from keras_vit.training.data import ImageData, digits
from keras_vit.training.optimizers import adamw
from keras_vit.training.strategy import precision, strategy, synchronize
from keras_vit.training.trainer import TrainingResult, fit, gives_logits

__all__ = [
    "BestModel",
    "EpochLog",
    "ImageData",
    "StopAtNonFiniteLoss",
    "TrainingCheckpoint",
    "TrainingResult",
    "adamw",
    "digits",
    "fit",
    "gives_logits",
    "precision",
    "strategy",
    "synchronize",
]
