"""Training: data, optimizers, losses, distillation, and a `fit` that can be interrupted and continued exactly."""

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
from keras_vit.training.data import (
    ImageData,
    MultiScale,
    Pipeline,
    arrays,
    csv_images,
    digits,
    image_folder,
    open_data,
    tfds_images,
    tfrecords,
    write_tfrecords,
)
from keras_vit.training.distribution.strategy import precision, strategy, synchronize
from keras_vit.training.evaluation.averaging import EvaluateAverage, averaged_weights
from keras_vit.training.evaluation.evaluation import ClassAccuracy, Evaluation, evaluate
from keras_vit.training.objectives.losses import DistillationLoss, SigmoidCrossentropy
from keras_vit.training.objectives.scores import gives_logits
from keras_vit.training.optimizers.adam import LAMB, AdamW
from keras_vit.training.optimizers.factory import SGD, Adafactor, Lion, adamw, layer_depths, optimizer
from keras_vit.training.optimizers.lars import LARS
from keras_vit.training.optimizers.schedules import Cosine, InverseSquareRoot, Linear
from keras_vit.training.optimizers.soap import SOAP
from keras_vit.training.recipes import Recipe, list_recipes, recipe, train
from keras_vit.training.running.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
from keras_vit.training.running.checkpoint import TrainingCheckpoint
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.running.learning_rate_finder import RangeTest, find_learning_rate
from keras_vit.training.running.trainer import TrainingResult, fit
from keras_vit.training.steps.distillation import distill
from keras_vit.training.steps.recomputation import recompute
from keras_vit.training.steps.sam import use_sam
from keras_vit.training.steps.sizes import train_at_sizes
from keras_vit.training.steps.step import restore_step

__all__ = [
    "LAMB",
    "LARS",
    "SGD",
    "SOAP",
    "Adafactor",
    "AdamW",
    "Augmentation",
    "AutoAugment",
    "BestModel",
    "CentreCrop",
    "ClassAccuracy",
    "ColorJitter",
    "Cosine",
    "DistillationLoss",
    "EpochLog",
    "EvaluateAverage",
    "Evaluation",
    "Hyperparameters",
    "ImageData",
    "InverseSquareRoot",
    "Linear",
    "Lion",
    "MultiScale",
    "Pipeline",
    "RandAugment",
    "RandomResizedCrop",
    "RangeTest",
    "Recipe",
    "SigmoidCrossentropy",
    "SimpleRandomCrop",
    "StopAtNonFiniteLoss",
    "ThreeAugment",
    "TrainingCheckpoint",
    "TrainingResult",
    "adamw",
    "arrays",
    "averaged_weights",
    "csv_images",
    "digits",
    "distill",
    "evaluate",
    "find_learning_rate",
    "fit",
    "gives_logits",
    "image_folder",
    "layer_depths",
    "list_recipes",
    "multi_crop",
    "open_data",
    "optimizer",
    "precision",
    "recipe",
    "recompute",
    "restore_step",
    "strategy",
    "synchronize",
    "tfds_images",
    "tfrecords",
    "train",
    "train_at_sizes",
    "use_sam",
    "write_tfrecords",
]
