"""DeiT III: "Revenge of the ViT" (Touvron, Cord, Jegou, arXiv 2204.07118, table 1 and the authors' command lines).

    keras-vit train --recipe deit3_b16_imagenet --data DATA --run-dir runs/deit3
    keras-vit train --recipe deit3_b16_imagenet_finetune_224 --weights runs/deit3/best.keras --data DATA \
        --run-dir runs/deit3_224

Train on ImageNet-1k at a low resolution for 800 epochs, then fine-tune for 20 epochs at 224 or 384 pixels. Or
pre-train on ImageNet-21k, then fine-tune for 50 epochs on ImageNet-1k. The learning rate does not scale with the batch
size.
"""

from dataclasses import dataclass, replace

from keras_vit.training.augment import RandAugment, SimpleRandomCrop
from keras_vit.training.recipes.augmentations import DEIT, DEIT3
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_SCHEDULE = {"warmup_epochs": 5, "warmup_learning_rate": 1e-6, "final_learning_rate": 1e-5, "clip_norm": None}
_SIMPLE_CROP = replace(DEIT3, crop=SimpleRandomCrop(), mixup=0.0, repeats=1)
_FINE = replace(DEIT, policy=RandAugment(), erase=0.0, repeats=1)
_CROSS_ENTROPY = {"label_smoothing": 0.1}


@dataclass(frozen=True)
class _Stage:
    """One of the paper's training stages.

    Attributes:
        name: The end of the names of its recipes.
        sizes: For each model size: the image size, the rate of stochastic depth, and the final top-1 accuracy. For
            models that are trained below 224 pixels, it is the accuracy after fine-tuning at 224.
        augmentation: The augmentation.
        batch_size: The batch size.
        hyperparameters: Fields of `Hyperparameters`.
        data: The name of the data set.
    """

    name: str
    sizes: dict
    augmentation: object
    batch_size: int
    hyperparameters: dict
    data: str = "ImageNet-1k"


_STAGES = (
    _Stage(
        "imagenet",
        {"s": (224, 0.05, 81.4), "b": (192, 0.2, 83.8), "l": (192, 0.45, 84.9), "h": (160, 0.6, 85.2)},
        DEIT3,
        2048,
        {
            "epochs": 800,
            "learning_rate": 3e-3,
            "optimizer": "lamb",
            "weight_decay": 0.05,
            # Both classes of a mixed image get the target 1.
            "loss": "sigmoid",
            "loss_settings": {"threshold": 0.0},
            "label_smoothing": 0.0,
        },
    ),
    _Stage(
        "imagenet_finetune_224",
        {"b": (224, 0.2, 83.8), "l": (224, 0.45, 84.9), "h": (224, 0.55, 85.2)},
        _FINE,
        512,
        {"epochs": 20, "learning_rate": 1e-5, "final_learning_rate": 1e-6, "weight_decay": 0.1, **_CROSS_ENTROPY},
    ),
    _Stage(
        "imagenet_finetune_384",
        {"s": (384, 0.0, 83.4), "b": (384, 0.15, 85.0), "l": (384, 0.4, 85.8)},
        _FINE,
        512,
        {"epochs": 20, "learning_rate": 1e-5, "final_learning_rate": 1e-6, "weight_decay": 0.1, **_CROSS_ENTROPY},
    ),
    _Stage(
        "imagenet21k",
        {"s": (224, 0.05, None), "b": (224, 0.1, None), "l": (224, 0.3, None), "h": (128, 0.5, None)},
        _SIMPLE_CROP,
        2048,
        {"epochs": 240, "learning_rate": 1e-3, "optimizer": "lamb", "weight_decay": 0.02, **_CROSS_ENTROPY},
        "ImageNet-21k",
    ),
    _Stage(
        "imagenet21k_finetune_224",
        {"s": (224, 0.05, 83.1), "b": (224, 0.15, 85.7), "l": (224, 0.4, 87.0), "h": (224, 0.45, 87.2)},
        _SIMPLE_CROP,
        2048,
        {"epochs": 50, "learning_rate": 3e-4, "optimizer": "lamb", "weight_decay": 0.02, **_CROSS_ENTROPY},
    ),
)
_MODELS = {"s": "deit3_s16", "b": "deit3_b16", "l": "deit3_l16", "h": "deit3_h14"}
# Settings of single sizes that differ from those of the stage.
_OWN: dict[tuple[str, str], dict] = {("s", "imagenet"): {"learning_rate": 4e-3}, ("h", "imagenet21k"): {"epochs": 90}}


def _recipe(stage: _Stage, size: str) -> Recipe:
    model = _MODELS[size]
    image_size, drop_path_rate, top1 = stage.sizes[size]
    settings = {**_SCHEDULE, **stage.hyperparameters, **_OWN.get((size, stage.name), {})}
    return Recipe(
        paper="Touvron et al., arXiv 2204.07118, table 1",
        top1=top1,
        data=stage.data,
        model=model,
        model_settings={"drop_path_rate": drop_path_rate},
        pipeline=deferred_images(
            model, image_size=image_size, batch_size=stage.batch_size, augmentation=stage.augmentation
        ),
        hyperparameters=Hyperparameters(**settings),
    )


RECIPES = {f"{_MODELS[size]}_{stage.name}": _recipe(stage, size) for stage in _STAGES for size in stage.sizes}
