"""CPVT (Chu et al., arXiv 2102.10882, section 4.1) and Twins (arXiv 2104.13840, section 4.1).

    keras-vit train --recipe cpvt_ti_gap --data DATA --run-dir runs/cpvt
    keras-vit train --recipe twins_svt_s --data DATA --run-dir runs/twins

CPVT is trained with the settings of DeiT in batches of 2048 images. Twins has no repeated augmentation and no averaged
weights, clips its gradients, and has more stochastic depth in larger models; its numbers are those of the paper and the
defaults of the authors' script (Meituan-AutoML/Twins).
"""

from dataclasses import replace
from typing import Any

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_CPVT = {"cpvt_ti": 73.4, "cpvt_ti_gap": 74.9, "cpvt_s": 80.5, "cpvt_s_gap": 81.5}  # Top-1.
_TWINS = {  # Stochastic depth and top-1.
    "twins_pcpvt_s": (0.2, 81.2),
    "twins_pcpvt_b": (0.3, 82.7),
    "twins_pcpvt_l": (0.5, 83.1),
    "twins_svt_s": (0.2, 81.7),
    "twins_svt_b": (0.3, 83.2),
    "twins_svt_l": (0.5, 83.7),
}
_SHARED: dict[str, Any] = {
    "epochs": 300,
    "learning_rate": 5e-4,
    "learning_rate_batch": 512,
    "warmup_epochs": 5,
    "warmup_learning_rate": 1e-6,
    "final_learning_rate": 1e-5,
    "cooldown_epochs": 10,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
}

RECIPES = {
    **{
        model: Recipe(
            paper="Chu et al., arXiv 2102.10882, section 4.1",
            top1=top1,
            model=model,
            model_settings={"drop_path_rate": 0.1},
            pipeline=deferred_images(model, batch_size=2048, augmentation=DEIT),
            hyperparameters=Hyperparameters(clip_norm=None, ema_decay=0.99996, **_SHARED),
        )
        for model, top1 in _CPVT.items()
    },
    **{
        model: Recipe(
            paper="Chu et al., arXiv 2104.13840, section 4.1, and the authors' script",
            hardware="8 GPUs",
            top1=top1,
            model=model,
            model_settings={"drop_path_rate": drop_path_rate},
            pipeline=deferred_images(model, batch_size=1024, augmentation=replace(DEIT, repeats=1)),
            hyperparameters=Hyperparameters(clip_norm=5.0, **_SHARED),
        )
        for model, (drop_path_rate, top1) in _TWINS.items()
    },
}
