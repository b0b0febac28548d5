"""Mobile-Former (Chen et al., arXiv 2108.05895, section 5.1 and its appendix).

    keras-vit train --recipe mobile_former_294m --data DATA --run-dir runs/mobile_former

Larger models use stronger regularization. The paper does not mention a warm-up; the five epochs here are taken from
DeiT.
"""

from keras_vit.training.augment import Augmentation, RandAugment
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_SIZES = {  # Learning rate, weight decay, dropout, MixUp, whether to use RandAugment, erasing, top-1.
    "508m": (1e-3, 0.20, 0.3, 0.2, True, 0.2, 79.3),
    "294m": (1e-3, 0.20, 0.3, 0.2, True, 0.2, 77.9),
    "214m": (9e-4, 0.15, 0.2, 0.2, True, 0.2, 76.7),
    "151m": (9e-4, 0.10, 0.2, 0.2, True, 0.2, 75.2),
    "96m": (8e-4, 0.10, 0.2, 0.0, True, 0.0, 72.8),
    "52m": (8e-4, 0.10, 0.2, 0.2, False, 0.0, 68.7),
    "26m": (8e-4, 0.08, 0.1, 0.2, True, 0.0, 64.0),
}

RECIPES = {
    f"mobile_former_{size}": Recipe(
        paper="Chen et al., arXiv 2108.05895, section 5.1",
        hardware="8 GPUs",
        top1=top1,
        model=f"mobile_former_{size}",
        model_settings={"dropout_rate": dropout},
        pipeline=deferred_images(
            f"mobile_former_{size}",
            batch_size=1024,
            augmentation=Augmentation(policy=RandAugment() if randaugment else None, erase=erase, mixup=mixup),
        ),
        hyperparameters=Hyperparameters(
            epochs=450, learning_rate=rate, warmup_epochs=5, weight_decay=decay, clip_norm=None, label_smoothing=0.1
        ),
    )
    for size, (rate, decay, dropout, mixup, randaugment, erase, top1) in _SIZES.items()
}
