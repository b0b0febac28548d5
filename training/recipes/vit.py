"""The original ViT (Dosovitskiy et al., arXiv 2010.11929, table 3 and appendix B).

    keras-vit train --recipe vit_b16_imagenet --data DATA --run-dir runs/vit
    keras-vit train --recipe vit_b16_finetune_384 --data DATA --run-dir runs/vit_384

Pre-train on ImageNet-1k, ImageNet-21k or JFT-300M at 224 pixels, then fine-tune at 384 pixels. The accuracies, those of
the pre-training recipes included, are measured on ImageNet-1k after both stages (table 5).
"""

from typing import Any

from keras_vit.training.recipes.augmentations import INCEPTION
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_PAPER = "Dosovitskiy et al., arXiv 2010.11929"
_WIDTHS = {"vit_b32": 768, "vit_b16": 768, "vit_l32": 1024, "vit_l16": 1024, "vit_h14": 1280}
_TOP1 = {  # After fine-tuning, by pre-training data set.
    "imagenet": {"vit_b32": 73.38, "vit_b16": 77.91, "vit_l32": 71.16, "vit_l16": 76.53},
    "imagenet21k": {"vit_b32": 81.28, "vit_b16": 83.97, "vit_l32": 80.99, "vit_l16": 85.15, "vit_h14": 85.13},
}
_JFT = {  # Epochs and learning rate.
    "vit_b32": (7, 8e-4),
    "vit_b16": (7, 8e-4),
    "vit_l32": (7, 6e-4),
    "vit_l16": (14, 4e-4),
    "vit_h14": (14, 3e-4),
}
# The initial bias of the head makes all 21,843 classes unlikely at the start. The paper's loss is the sum over classes.
_SIGMOID: dict[str, Any] = {"loss": "sigmoid", "loss_settings": {"sum_over_classes": True}, "label_smoothing": 0.0}
_PRETRAINING: dict[str, Any] = {"optimizer": "adamw", "warmup_steps": 10_000}


def _pretraining(model, data, **more):
    settings: dict[str, Any] = {
        "pipeline": deferred_images(model, batch_size=4096, augmentation=INCEPTION),
        "hardware": "TPU v3",
        **more,
    }
    return Recipe(paper=f"{_PAPER}, table 3", data=data, model=model, **settings)


RECIPES = {}
for _model, _width in _WIDTHS.items():
    if _model != "vit_h14":
        RECIPES[f"{_model}_imagenet"] = _pretraining(
            _model,
            "ImageNet-1k",
            top1=_TOP1["imagenet"][_model],
            model_settings={"dropout_rate": 0.1},
            hyperparameters=Hyperparameters(
                epochs=300, learning_rate=3e-3, weight_decay=0.3, clip_norm=1.0, label_smoothing=0.0, **_PRETRAINING
            ),
        )
    RECIPES[f"{_model}_imagenet21k"] = _pretraining(
        _model,
        "ImageNet-21k",
        time="230 TPU v3 core-days" if _model == "vit_l16" else "not published",
        top1=_TOP1["imagenet21k"][_model],
        model_settings={"dropout_rate": 0.1, "representation_size": _width},
        head_bias=-10.0,
        hyperparameters=Hyperparameters(
            epochs=90,
            learning_rate=1e-3,
            schedule="linear",
            final_learning_rate=1e-5,
            weight_decay=0.03,
            clip_norm=None,
            **_SIGMOID,
            **_PRETRAINING,
        ),
    )
    _epochs, _rate = _JFT[_model]
    RECIPES[f"{_model}_jft"] = _pretraining(
        _model,
        "JFT-300M",
        time={"vit_l16": "680 TPU v3 core-days", "vit_h14": "2,500 TPU v3 core-days"}.get(_model, "not published"),
        model_settings={"representation_size": _width},
        head_bias=-10.0,
        hyperparameters=Hyperparameters(
            epochs=_epochs,
            learning_rate=_rate,
            schedule="linear",
            weight_decay=0.1,
            clip_norm=None,
            **_SIGMOID,
            **_PRETRAINING,
        ),
    )
    RECIPES[f"{_model}_finetune_384"] = Recipe(
        paper=f"{_PAPER}, table 4 and appendix B.1.1",
        hardware="TPU v3",
        top1=_TOP1["imagenet21k"][_model],
        model=_model,
        weights="orig_in21k",
        pipeline=deferred_images(_model, "orig_in21k", image_size=384, batch_size=512, augmentation=INCEPTION),
        hyperparameters=Hyperparameters(
            steps=20_000,
            learning_rate=0.03,
            optimizer="sgd",
            optimizer_settings={"momentum": 0.9},
            warmup_steps=500,
            weight_decay=0.0,
            clip_norm=1.0,
            label_smoothing=0.0,
        ),
    )
