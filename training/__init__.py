"""Train models: data, optimizers, losses, distillation, and a `fit` that can be interrupted and continued exactly.

Names are imported when they are first used, so importing this package imports neither Keras nor TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

from keras_vit._registration import when_imported

if TYPE_CHECKING:  # For editors and type checkers; a test holds this against the table below.
    from keras_vit.training.augment import (
        Augmentation,
        AutoAugment,
        CenterCrop,
        ColorJitter,
        RandAugment,
        RandomAffine,
        RandomResizedCrop,
        SimpleRandomCrop,
        ThreeAugment,
        multi_crop,
    )
    from keras_vit.training.data import (
        EvaluationData,
        ImageData,
        MultiScale,
        Pipeline,
        Statistics,
        arrays,
        csv_images,
        digits,
        evaluation_data,
        image_folder,
        open_data,
        tfds_images,
        tfrecords,
        write_tfrecords,
    )
    from keras_vit.training.distribution.strategy import precision, strategy, synchronize
    from keras_vit.training.evaluation.averaging import EvaluateAverage, averaged_weights
    from keras_vit.training.evaluation.evaluation import ClassAccuracy, Evaluation, evaluate
    from keras_vit.training.evaluation.landscape import Landscape, LossSurface, landscape
    from keras_vit.training.objectives.losses import DistillationLoss, SigmoidCrossentropy
    from keras_vit.training.objectives.scores import gives_logits
    from keras_vit.training.optimizers.adam import LAMB, AdamW
    from keras_vit.training.optimizers.factory import SGD, Adafactor, Lion, layer_depths, optimizer
    from keras_vit.training.optimizers.lars import LARS
    from keras_vit.training.optimizers.schedules import Cosine, InverseSquareRoot, Linear
    from keras_vit.training.optimizers.soap import SOAP
    from keras_vit.training.recipes import Recipe, list_recipes, recipe
    from keras_vit.training.recipes.training import pretrain_recipe, train
    from keras_vit.training.running.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
    from keras_vit.training.running.checkpoint import TrainingCheckpoint
    from keras_vit.training.running.hyperparameters import Hyperparameters
    from keras_vit.training.running.learning_rate_finder import RangeTest, find_learning_rate
    from keras_vit.training.running.pruning import Prune
    from keras_vit.training.running.trainer import TrainingResult, fit
    from keras_vit.training.self_supervised.beit import masked_image_model
    from keras_vit.training.self_supervised.colors import color_centers
    from keras_vit.training.self_supervised.dino import self_distillation
    from keras_vit.training.self_supervised.instance_discrimination import instance_discrimination
    from keras_vit.training.self_supervised.mae import masked_autoencoder
    from keras_vit.training.self_supervised.methods import DINO, IGPT, MAE, BEiT, InstanceDiscrimination, Tokenizer
    from keras_vit.training.self_supervised.partial import train_last_blocks
    from keras_vit.training.self_supervised.pretrain import PretrainingResult, pretrain
    from keras_vit.training.self_supervised.probing import (
        attentive_classifier,
        features,
        knn_accuracy,
        linear_classifier,
    )
    from keras_vit.training.self_supervised.tokenizer import discrete_autoencoder, image_tokenizer
    from keras_vit.training.steps.distillation import distill
    from keras_vit.training.steps.recomputation import recompute
    from keras_vit.training.steps.sam import use_sam
    from keras_vit.training.steps.sizes import train_at_sizes
    from keras_vit.training.steps.step import restore_step

# The public names, by the module that defines them.
_NAMES = {
    "augment": (
        "Augmentation",
        "AutoAugment",
        "CenterCrop",
        "ColorJitter",
        "RandAugment",
        "RandomAffine",
        "RandomResizedCrop",
        "SimpleRandomCrop",
        "ThreeAugment",
        "multi_crop",
    ),
    "data": (
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
    ),
    "distribution.strategy": (
        "precision",
        "strategy",
        "synchronize",
    ),
    "evaluation.averaging": (
        "EvaluateAverage",
        "averaged_weights",
    ),
    "evaluation.evaluation": (
        "ClassAccuracy",
        "Evaluation",
        "evaluate",
    ),
    "evaluation.landscape": (
        "Landscape",
        "LossSurface",
        "landscape",
    ),
    "objectives.losses": (
        "DistillationLoss",
        "SigmoidCrossentropy",
    ),
    "objectives.scores": ("gives_logits",),
    "optimizers.adam": (
        "AdamW",
        "LAMB",
    ),
    "optimizers.factory": (
        "Adafactor",
        "Lion",
        "SGD",
        "layer_depths",
        "optimizer",
    ),
    "optimizers.lars": ("LARS",),
    "optimizers.schedules": (
        "Cosine",
        "InverseSquareRoot",
        "Linear",
    ),
    "optimizers.soap": ("SOAP",),
    "recipes": (
        "Recipe",
        "list_recipes",
        "recipe",
    ),
    "recipes.training": (
        "pretrain_recipe",
        "train",
    ),
    "running.callbacks": (
        "BestModel",
        "EpochLog",
        "StopAtNonFiniteLoss",
    ),
    "running.checkpoint": ("TrainingCheckpoint",),
    "running.hyperparameters": ("Hyperparameters",),
    "running.learning_rate_finder": (
        "RangeTest",
        "find_learning_rate",
    ),
    "running.pruning": ("Prune",),
    "running.trainer": (
        "TrainingResult",
        "fit",
    ),
    "self_supervised.beit": ("masked_image_model",),
    "self_supervised.colors": ("color_centers",),
    "self_supervised.dino": ("self_distillation",),
    "self_supervised.instance_discrimination": ("instance_discrimination",),
    "self_supervised.mae": ("masked_autoencoder",),
    "self_supervised.methods": (
        "BEiT",
        "DINO",
        "IGPT",
        "MAE",
        "InstanceDiscrimination",
        "Tokenizer",
    ),
    "self_supervised.partial": ("train_last_blocks",),
    "self_supervised.pretrain": (
        "PretrainingResult",
        "pretrain",
    ),
    "self_supervised.probing": (
        "attentive_classifier",
        "features",
        "knn_accuracy",
        "linear_classifier",
    ),
    "self_supervised.tokenizer": (
        "discrete_autoencoder",
        "image_tokenizer",
    ),
    "steps.distillation": ("distill",),
    "steps.recomputation": ("recompute",),
    "steps.sam": ("use_sam",),
    "steps.sizes": ("train_at_sizes",),
    "steps.step": ("restore_step",),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}

__all__ = [
    "DINO",
    "IGPT",
    "LAMB",
    "LARS",
    "MAE",
    "SGD",
    "SOAP",
    "Adafactor",
    "AdamW",
    "Augmentation",
    "AutoAugment",
    "BEiT",
    "BestModel",
    "CenterCrop",
    "ClassAccuracy",
    "ColorJitter",
    "Cosine",
    "DistillationLoss",
    "EpochLog",
    "EvaluateAverage",
    "Evaluation",
    "EvaluationData",
    "Hyperparameters",
    "ImageData",
    "InstanceDiscrimination",
    "InverseSquareRoot",
    "Landscape",
    "Linear",
    "Lion",
    "LossSurface",
    "MultiScale",
    "Pipeline",
    "PretrainingResult",
    "Prune",
    "RandAugment",
    "RandomAffine",
    "RandomResizedCrop",
    "RangeTest",
    "Recipe",
    "SigmoidCrossentropy",
    "SimpleRandomCrop",
    "Statistics",
    "StopAtNonFiniteLoss",
    "ThreeAugment",
    "Tokenizer",
    "TrainingCheckpoint",
    "TrainingResult",
    "arrays",
    "attentive_classifier",
    "averaged_weights",
    "color_centers",
    "csv_images",
    "digits",
    "discrete_autoencoder",
    "distill",
    "evaluate",
    "evaluation_data",
    "features",
    "find_learning_rate",
    "fit",
    "gives_logits",
    "image_folder",
    "image_tokenizer",
    "instance_discrimination",
    "knn_accuracy",
    "landscape",
    "layer_depths",
    "linear_classifier",
    "list_recipes",
    "masked_autoencoder",
    "masked_image_model",
    "multi_crop",
    "open_data",
    "optimizer",
    "precision",
    "pretrain",
    "pretrain_recipe",
    "recipe",
    "recompute",
    "restore_step",
    "self_distillation",
    "strategy",
    "synchronize",
    "tfds_images",
    "tfrecords",
    "train",
    "train_at_sizes",
    "train_last_blocks",
    "use_sam",
    "write_tfrecords",
]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Saved models name optimizers, losses and schedules of ours, which Keras must know to load them.
def _register_classes() -> None:
    importlib.import_module("keras_vit.training.registered")


when_imported("keras", _register_classes)
