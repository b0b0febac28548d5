"""T2T-ViT (Yuan et al., arXiv 2101.11986, section 4.1 and the authors' code).

    keras-vit train --recipe t2t_14 --data DATA --run-dir runs/t2t_14

Train for 300 epochs, and 10 more at the lowest learning rate, with the augmentation of DeiT without repeated
augmentation. The numbers are those of the commands in the authors' README (yitu-opensource/T2T-ViT) and the defaults of
their script. Their settings also list color jitter, but timm does not apply it together with RandAugment.
"""

from dataclasses import replace

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_TRAININGS = {  # Model: learning rate, weight decay, top-1.
    "t2t_7": (1e-3, 0.03, 71.7),
    "t2t_10": (1e-3, 0.03, 75.2),
    "t2t_12": (1e-3, 0.03, 76.5),
    "t2t_14": (5e-4, 0.05, 81.5),
    "t2t_19": (5e-4, 0.065, 81.9),
    "t2t_24": (5e-4, 0.065, 82.3),
    "t2t_t_14": (5e-4, 0.05, 81.7),
    "t2t_t_19": (5e-4, 0.065, 82.4),
    "t2t_t_24": (5e-4, 0.065, 82.6),
}

RECIPES = {
    model: Recipe(
        paper="Yuan et al., arXiv 2101.11986, section 4.1, and the commands of the authors",
        hardware="8 GPUs",
        top1=top1,
        model=model,
        # The performer has dropout of its own, the transformer between the soft splits has none.
        model_settings={"drop_path_rate": 0.1, "token_dropout_rate": 0.0 if "_t_" in model else 0.1},
        pipeline=deferred_images(model, batch_size=512, augmentation=replace(DEIT, repeats=1)),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=learning_rate,
            warmup_epochs=10,
            warmup_learning_rate=1e-6,
            final_learning_rate=1e-5,
            cooldown_epochs=10,
            weight_decay=weight_decay,
            clip_norm=None,
            ema_decay=0.99996,
            label_smoothing=0.1,
        ),
    )
    for model, (learning_rate, weight_decay, top1) in _TRAININGS.items()
}
