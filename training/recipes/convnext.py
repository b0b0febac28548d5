"""ConvNeXt (Liu et al., arXiv 2201.03545, tables 5 and 6, and the authors' TRAINING.md).

    keras-vit train --recipe convnext_t --data DATA --run-dir runs/convnext_t
    keras-vit train --recipe convnext_b_in22k_finetune_384 --data DATA --run-dir runs/convnext_b_384

Train on ImageNet-1k for 300 epochs, or on ImageNet-22k for 90 epochs, then fine-tune for 30 epochs with smaller
learning rates in the first layers. The learning rate does not scale with the batch size. These recipes leave out that
the authors multiply the classifier's initial weights by 0.001 in fine-tuning, and that they give groups of three blocks
of the third stage one learning rate.
"""

from dataclasses import replace

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_PAPER = "Liu et al., arXiv 2201.03545"
_AUGMENTATION = replace(DEIT, repeats=1)
_FINE = replace(_AUGMENTATION, mixup=0.0, cutmix=0.0)
_TRAININGS = {  # Stochastic depth, hardware, top-1.
    "t": (0.1, "32 GPUs", 82.1),
    "s": (0.4, "32 GPUs", 83.1),
    "b": (0.5, "32 GPUs", 83.8),
    "l": (0.5, "64 GPUs", 84.3),
}
_IN22K = {"b": 0.1, "l": 0.1, "xl": 0.2}  # Stochastic depth.
_FINE_TUNINGS = {  # Recipe: size, weights, image size, stochastic depth, layer decay, hardware, top-1.
    "b_finetune_384": ("b", "fb_in1k", 384, 0.8, 0.7, "16 GPUs", 85.1),
    "l_finetune_384": ("l", "fb_in1k", 384, 0.95, 0.7, "16 GPUs", 85.5),
    "b_in22k_finetune": ("b", "fb_in22k", 224, 0.2, 0.8, "16 GPUs", 85.8),
    "l_in22k_finetune": ("l", "fb_in22k", 224, 0.3, 0.8, "16 GPUs", 86.6),
    "xl_in22k_finetune": ("xl", "fb_in22k", 224, 0.4, 0.8, "32 GPUs", 87.0),
    "b_in22k_finetune_384": ("b", "fb_in22k", 384, 0.2, 0.8, "32 GPUs", 86.8),
    "l_in22k_finetune_384": ("l", "fb_in22k", 384, 0.3, 0.8, "32 GPUs", 87.5),
    "xl_in22k_finetune_384": ("xl", "fb_in22k", 384, 0.4, 0.8, "64 GPUs", 87.8),
}


def _training(size: str, drop_path_rate: float, epochs: int, warmup_epochs: int, **changes) -> Recipe:
    model = f"convnext_{size}"
    return Recipe(
        model=model,
        model_settings={"drop_path_rate": drop_path_rate},
        pipeline=deferred_images(model, batch_size=4096, augmentation=_AUGMENTATION),
        hyperparameters=Hyperparameters(
            epochs=epochs,
            learning_rate=4e-3,
            warmup_epochs=warmup_epochs,
            final_learning_rate=1e-6,
            weight_decay=0.05,
            clip_norm=None,
            ema_decay=None if "data" in changes else 0.9999,
            label_smoothing=0.1,
        ),
        **changes,
    )


def _fine_tuning(size, weights, image_size, drop_path_rate, layer_decay, hardware, top1) -> Recipe:
    model = f"convnext_{size}"
    return Recipe(
        paper=f"{_PAPER}, table 6",
        hardware=hardware,
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": drop_path_rate},
        weights=weights,
        pipeline=deferred_images(model, weights, image_size=image_size, batch_size=512, augmentation=_FINE),
        hyperparameters=Hyperparameters(
            epochs=30,
            learning_rate=5e-5,
            final_learning_rate=1e-6,
            weight_decay=1e-8,
            layer_decay=layer_decay,
            clip_norm=None,
            ema_decay=0.9999 if size == "xl" else None,
            label_smoothing=0.1,
        ),
    )


RECIPES = {
    **{
        f"convnext_{size}": _training(size, rate, 300, 20, paper=f"{_PAPER}, table 5", hardware=hardware, top1=top1)
        for size, (rate, hardware, top1) in _TRAININGS.items()
    },
    **{
        f"convnext_{size}_in22k": _training(
            size, rate, 90, 5, paper=f"{_PAPER}, table 5", hardware="128 GPUs", data="ImageNet-22k"
        )
        for size, rate in _IN22K.items()
    },
    **{f"convnext_{name}": _fine_tuning(*facts) for name, facts in _FINE_TUNINGS.items()},
}
