"""EfficientViT from Microsoft Research (Liu et al., arXiv 2305.07027, section 4.1 and the authors' code).

    keras-vit train --recipe efficientvit_m4 --data DATA --run-dir runs/efficientvit_m4

The paper's learning rate of 1e-3 is for a batch size of 512. The authors train with a batch size of 2048, so they
multiply it by four.
"""

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_TOP1 = {"m0": 63.2, "m1": 68.4, "m2": 70.8, "m3": 73.4, "m4": 74.3, "m5": 77.1}

RECIPES = {
    f"efficientvit_{size}": Recipe(
        paper="Liu et al., arXiv 2305.07027, section 4.1",
        hardware="8 V100 GPUs",
        top1=top1,
        model=f"efficientvit_{size}",
        pipeline=deferred_images(f"efficientvit_{size}", batch_size=2048, augmentation=DEIT),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=1e-3,
            learning_rate_batch=512,
            warmup_epochs=5,
            warmup_learning_rate=1e-6,
            final_learning_rate=1e-5,
            weight_decay=0.025,
            clip_norm=None,
            adaptive_clip=0.02,
            ema_decay=0.99996,
            label_smoothing=0.1,
        ),
    )
    for size, top1 in _TOP1.items()
}
