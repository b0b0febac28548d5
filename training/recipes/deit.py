"""DeiT: data-efficient training and distillation (Touvron et al., arXiv 2012.12877, table 9).

    keras-vit train --recipe deit_s16 --data DATA --run-dir runs/deit
    keras-vit train --recipe deit_s16_distilled --teacher TEACHER.keras --data DATA --run-dir runs/deit_distilled

The authors' teacher is a RegNetY-16GF with a top-1 accuracy of 82.9 %. Their settings also list color jitter, but their
code does not apply it together with RandAugment.
"""

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_PAPER = "Touvron et al., arXiv 2012.12877"
_FOUR_GPUS = ("4 GPUs", "less than 3 days")
_FACTS = {  # Hardware, time and top-1 accuracy.
    "deit_ti16": (*_FOUR_GPUS, 72.2),
    "deit_s16": (*_FOUR_GPUS, 79.8),
    "deit_b16": ("8 GPUs", "53 hours", 81.8),
    "deit_ti16_distilled": (*_FOUR_GPUS, 74.5),
    "deit_s16_distilled": (*_FOUR_GPUS, 81.2),
    "deit_b16_distilled": ("8 GPUs", "not published", 83.4),
}

RECIPES = {
    model: Recipe(
        paper=f"{_PAPER}, table 9",
        hardware=hardware,
        time=time,
        top1=top1,
        model=model,
        model_settings={
            "drop_path_rate": 0.1,
            **({"distillation_outputs": True} if model.endswith("distilled") else {}),
        },
        pipeline=deferred_images(model, batch_size=1024, augmentation=DEIT),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=5e-4,
            learning_rate_batch=512,
            warmup_epochs=5,
            warmup_learning_rate=1e-6,
            final_learning_rate=1e-5,
            cooldown_epochs=10,
            weight_decay=0.05,
            clip_norm=None,
            ema_decay=0.99996,
            label_smoothing=0.1,
        ),
    )
    for model, (hardware, time, top1) in _FACTS.items()
}
