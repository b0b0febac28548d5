"""CvT (Wu et al., arXiv 2103.15808, section 4.1).

    keras-vit train --recipe cvt_13 --data DATA --run-dir runs/cvt_13

Train for 300 epochs with batches of 2048 images and a cosine schedule. The augmentation, the label smoothing and the
stochastic depth, which only the last stage has, are those of the authors' configuration of CvT-13 (microsoft/CvT).
"""

from dataclasses import replace

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_MODELS = {"cvt_13": (0.05, 81.6), "cvt_21": (0.1, 82.5)}  # Weight decay and top-1.

RECIPES = {
    model: Recipe(
        paper="Wu et al., arXiv 2103.15808, section 4.1, and the authors' configuration",
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": 0.1},
        pipeline=deferred_images(model, batch_size=2048, augmentation=replace(DEIT, repeats=1)),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=0.02,
            learning_rate_batch=None,
            warmup_epochs=5,
            weight_decay=weight_decay,
            clip_norm=None,
            label_smoothing=0.1,
        ),
    )
    for model, (weight_decay, top1) in _MODELS.items()
}
