"""AugReg: ViT with the right augmentation and regularization (Steiner et al., arXiv 2106.10270).

    keras-vit train --recipe vit_s16_augreg_light1 --data DATA --run-dir runs/augreg

There are seven levels of augmentation for each model. The paper combines them with and without dropout and stochastic
depth of 0.1 (`--set 'model_settings={"dropout_rate": 0.1, "drop_path_rate": 0.1}'`) and with a weight decay of 0.03 or
0.1. The best combination depends on the size of the model and of the data set (figure 4). The numbers come from the
authors' configurations for ImageNet-1k.
"""

from dataclasses import replace

from keras_vit.training.augment import RandAugment
from keras_vit.training.recipes.augmentations import INCEPTION
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

WIDTHS = {"vit_ti16": 192, "vit_s32": 384, "vit_s16": 384, "vit_b32": 768, "vit_b16": 768, "vit_l16": 1024}
LEVELS = {  # RandAugment's number of operations and magnitude, and MixUp's alpha.
    "none": (0, 0, 0.0),
    "light1": (2, 0, 0.0),
    "light2": (2, 10, 0.2),
    "medium1": (2, 15, 0.2),
    "medium2": (2, 15, 0.5),
    "strong1": (2, 20, 0.5),
    "strong2": (2, 20, 0.8),
}


def augmentation(level: str):
    """Return the augmentation of one of the paper's levels.

    The authors' RandAugment never skips an operation, and its magnitude does not vary.
    """
    operations, magnitude, mixup = LEVELS[level]
    policy = RandAugment(operations, magnitude, 0.0, 30.0, increasing=False, probability=1.0) if operations else None
    return replace(INCEPTION, policy=policy, mixup=mixup)


RECIPES = {
    f"{model}_augreg_{level}": Recipe(
        paper="Steiner et al., arXiv 2106.10270, section 3",
        hardware="TPU v3",
        model=model,
        model_settings={"representation_size": width},
        head_bias=-6.9,
        pipeline=deferred_images(model, batch_size=4096, augmentation=augmentation(level)),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=1e-3,
            warmup_steps=10_000,
            weight_decay=0.1,
            clip_norm=1.0,
            loss="sigmoid",
            loss_settings={"sum_over_classes": True},
            label_smoothing=0.0,
        ),
    )
    for model, width in WIDTHS.items()
    for level in LEVELS
}
