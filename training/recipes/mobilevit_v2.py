"""MobileViTv2 (Mehta and Rastegari, arXiv 2206.02680, section 4 and the authors' configurations).

    keras-vit train --recipe mobilevitv2_100 --data DATA --run-dir runs/mobilevitv2

Wider models use a lower learning rate and a higher weight decay.
"""

from keras_vit.training.augment import Augmentation, RandAugment
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_WIDTHS = {  # Learning rate, weight decay and top-1 accuracy.
    "050": (0.009, 0.004, 70.2),
    "075": (0.009, 0.008, 75.6),
    "100": (0.0075, 0.013, 78.1),
    "125": (0.0049, 0.020, 79.7),
    "150": (0.0035, 0.029, 80.4),
    "175": (0.0026, 0.039, 80.8),
    "200": (0.0020, 0.050, 81.2),
}

RECIPES = {
    f"mobilevitv2_{width}": Recipe(
        paper="Mehta and Rastegari, arXiv 2206.02680, section 4",
        top1=top1,
        model=f"mobilevitv2_{width}",
        pipeline=deferred_images(
            f"mobilevitv2_{width}",
            batch_size=1024,
            augmentation=Augmentation(policy=RandAugment(), erase=0.25, mixup=0.2, cutmix=1.0),
        ),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=rate,
            warmup_steps=20_000,
            warmup_learning_rate=1e-6,
            final_learning_rate=rate / 10,
            weight_decay=decay,
            clip_norm=10.0,
            ema_decay=1 - 5e-4,
            label_smoothing=0.1,
        ),
    )
    for width, (rate, decay, top1) in _WIDTHS.items()
}
