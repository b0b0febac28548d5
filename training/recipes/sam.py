"""ViT trained with sharpness-aware minimization (SAM) (Chen, Hsieh, Gong, arXiv 2106.01548).

    keras-vit train --recipe vit_b16_sam --data DATA --run-dir runs/sam

SAM takes the place of strong augmentation and of pre-training: the images are only cropped and flipped.
"""

from keras_vit.training.recipes.augmentations import INCEPTION
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

RECIPES = {
    f"{model}_sam": Recipe(
        paper="Chen et al., arXiv 2106.01548",
        hardware="TPU v3",
        top1=top1,
        model=model,
        pipeline=deferred_images(model, batch_size=4096, augmentation=INCEPTION),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=3e-3,
            warmup_steps=10_000,
            weight_decay=0.3,
            clip_norm=1.0,
            label_smoothing=0.0,
            sam=rho,
        ),
    )
    for model, rho, top1 in (
        ("vit_s32", 0.05, None),
        ("vit_s16", 0.1, None),
        ("vit_b32", 0.15, None),
        ("vit_b16", 0.2, 79.9),
    )
}
