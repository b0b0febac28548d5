"""Swin Transformer (Liu et al., arXiv 2103.14030, section A2.1) and version 2 (arXiv 2111.09883).

    keras-vit train --recipe swin_t --data DATA --run-dir runs/swin_t
    keras-vit train --recipe swin_b_finetune_384 --data DATA --run-dir runs/swin_b_384

Train for 300 epochs with the augmentation of DeiT, without repeated augmentation. Fine-tuning at 384 pixels changes the
windows from 7 to 12, and the position biases are resized when the weights are loaded. The authors' settings also list
color jitter, but their code does not apply it together with RandAugment.
"""

from dataclasses import replace

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_PAPER = "Liu et al., arXiv 2103.14030, section A2.1, and the authors' configurations"
_PAPER_V2 = "Liu et al., arXiv 2111.09883, and the authors' configurations"
_AUGMENTATION = replace(DEIT, repeats=1)
_TRAININGS = {  # Recipe: model, further settings, stochastic depth, top-1.
    "swin_t": ("swin_t", {}, 0.2, 81.2),
    "swin_s": ("swin_s", {}, 0.3, 83.2),
    "swin_b": ("swin_b", {}, 0.5, 83.5),
    "swinv2_t": ("swinv2_t", {}, 0.2, 81.8),
    "swinv2_s": ("swinv2_s", {}, 0.3, 83.7),
    "swinv2_b": ("swinv2_b", {}, 0.5, 84.2),
    "swinv2_t_window16": ("swinv2_t", {"window": 16}, 0.2, 82.8),
    "swinv2_s_window16": ("swinv2_s", {"window": 16}, 0.3, 84.1),
    "swinv2_b_window16": ("swinv2_b", {"window": 16}, 0.5, 84.6),
}
_FINE_TUNINGS = {  # Recipe: model, weights, image size, further settings, stochastic depth, top-1.
    "swin_b_finetune_384": ("swin_b", "ms_in1k", 384, {"window": 12}, 0.5, 84.5),
    "swin_b_in22k_finetune": ("swin_b", "ms_in22k", 224, {}, 0.2, 85.2),
    "swinv2_b_in22k_finetune": ("swinv2_b", "ms_in22k", 256, {"window": 16}, 0.2, 86.2),
}


def _recipe(model: str, settings: dict, drop_path_rate: float, top1: float, hyperparameters: dict, **changes) -> Recipe:
    weights = changes.get("weights")
    size = {"image_size": changes.pop("image_size")} if "image_size" in changes else {}
    return Recipe(
        paper=_PAPER_V2 if model.startswith("swinv2") else _PAPER,
        hardware="8 GPUs",
        top1=top1,
        model=model,
        model_settings={**settings, "drop_path_rate": drop_path_rate},
        pipeline=deferred_images(model, weights, batch_size=1024, augmentation=_AUGMENTATION, **size),
        hyperparameters=Hyperparameters(learning_rate_batch=512, clip_norm=5.0, label_smoothing=0.1, **hyperparameters),
        **changes,
    )


_TRAINING = {
    "epochs": 300,
    "learning_rate": 5e-4,
    "warmup_epochs": 20,
    # Also scaled to the batch size, from 5e-7 and 5e-6.
    "warmup_learning_rate": 1e-6,
    "final_learning_rate": 1e-5,
    "weight_decay": 0.05,
}
_FINE_TUNING = {
    "epochs": 30,
    "learning_rate": 2e-5,
    "warmup_epochs": 5,
    "warmup_learning_rate": 4e-8,
    "final_learning_rate": 4e-7,
    "weight_decay": 1e-8,
}

RECIPES = {
    **{name: _recipe(*facts, _TRAINING) for name, facts in _TRAININGS.items()},
    **{
        name: _recipe(model, settings, rate, top1, _FINE_TUNING, weights=weights, image_size=size)
        for name, (model, weights, size, settings, rate, top1) in _FINE_TUNINGS.items()
    },
}
