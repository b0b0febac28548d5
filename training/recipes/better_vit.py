"""Better plain ViT baselines for ImageNet-1k (Beyer, Zhai, Kolesnikov, arXiv 2205.01580).

    keras-vit train --recipe vit_s16_better_90 --data DATA --run-dir runs/better

Train a ViT-S/16 with sine-cosine position embeddings and average pooling for 90, 150 or 300 epochs. The authors hold
out 1 % of the training images for validation.
"""

from keras_vit.training.recipes.augreg import augmentation
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

RECIPES = {
    f"vit_s16_better_{epochs}": Recipe(
        paper="Beyer et al., arXiv 2205.01580",
        hardware="TPU v3-8",
        time=time,
        top1=top1,
        model="vit_s16",
        model_settings={
            "class_token": False,
            "pooling": "avg",
            "position_embedding": "sincos2d",
            "representation_size": 384,
        },
        pipeline=deferred_images("vit_s16", batch_size=1024, augmentation=augmentation("light2")),
        hyperparameters=Hyperparameters(
            epochs=epochs,
            learning_rate=1e-3,
            warmup_steps=10_000,
            weight_decay=0.1,
            clip_norm=1.0,
            label_smoothing=0.0,
        ),
    )
    for epochs, time, top1 in (
        (90, "less than 7 hours", 76.5),
        (150, "not published", 78.5),
        (300, "less than a day", 80.0),
    )
}
