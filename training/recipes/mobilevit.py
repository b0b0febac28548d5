"""MobileViT (Mehta and Rastegari, arXiv 2110.02178, section 4.1 and the authors' configurations).

    keras-vit train --recipe mobilevit_s --data DATA --run-dir runs/mobilevit

Train with basic augmentation and several image sizes. Batches of smaller images contain more images.
"""

from keras_vit.training.augment import Augmentation, RandomResizedCrop
from keras_vit.training.data import MultiScale
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

RECIPES = {
    model: Recipe(
        paper="Mehta and Rastegari, arXiv 2110.02178, section 4.1",
        hardware="8 GPUs",
        top1=top1,
        model=model,
        model_settings={"dropout_rate": 0.1, "attention_dropout_rate": 0.1},
        pipeline=deferred_images(
            model,
            batch_size=1024,
            augmentation=Augmentation(RandomResizedCrop(interpolation="bilinear")),
            multi_scale=MultiScale((160, 192, 256, 288, 320)),
        ),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=2e-3,
            warmup_steps=20_000,
            warmup_learning_rate=2e-4,
            final_learning_rate=2e-4,
            weight_decay=0.01,
            clip_norm=10.0,
            ema_decay=1 - 5e-4,
            label_smoothing=0.1,
        ),
    )
    for model, top1 in (("mobilevit_xxs", 69.0), ("mobilevit_xs", 74.8), ("mobilevit_s", 78.4))
}
