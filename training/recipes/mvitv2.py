"""MViTv2 (Li et al., arXiv 2112.01526, section A.2 and the authors' code).

    keras-vit train --recipe mvitv2_t --data DATA --run-dir runs/mvitv2_t

Train for 300 epochs, of which 70 warm up, with six operations of RandAugment. The numbers are those of the authors'
configurations and of the command in their README (facebookresearch/mvit), which trains with batches of 256 images; the
learning rate is proportional to the size of the batch. They have no configuration for the training of MViTv2-L.
"""

from dataclasses import replace

from keras_vit.training.augment import RandAugment
from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_TRAININGS = {"mvitv2_t": (0.1, 82.3), "mvitv2_s": (0.1, 83.6), "mvitv2_b": (0.3, 84.4)}  # Stochastic depth, top-1.

RECIPES = {
    model: Recipe(
        paper="Li et al., arXiv 2112.01526, section A.2, and the authors' configurations",
        hardware="8 GPUs",
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": drop_path_rate},
        pipeline=deferred_images(model, batch_size=256, augmentation=replace(DEIT, policy=RandAugment(6), repeats=1)),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=2.5e-4,
            learning_rate_batch=256,
            warmup_epochs=70,
            warmup_learning_rate=1e-8,
            final_learning_rate=1e-6,
            weight_decay=0.05,
            clip_norm=1.0,
            label_smoothing=0.1,
        ),
    )
    for model, (drop_path_rate, top1) in _TRAININGS.items()
}
