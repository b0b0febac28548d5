"""EfficientViT from MIT (Cai et al., arXiv 2205.14756, section 4.1 and the authors' configurations).

    keras-vit train --recipe efficientvit_b1 --data DATA --run-dir runs/efficientvit

Train for 300 epochs after 20 epochs of warm-up, with each batch at a random resolution. These recipes leave out some
of the authors' techniques: re-estimating the batch statistics after training, the MESA loss of L1 to L3, and excluding
the first stages of L1 to L3 from stochastic depth.
"""

from keras_vit.training.augment import Augmentation, RandAugment
from keras_vit.training.data import MultiScale
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_SIZES = {  # Learning rate per GPU, alpha of MixUp and CutMix, RandAugment, erasing, stochastic depth, top-1.
    "b1": (2.5e-4, 0.1, (1, 3), 0.0, 0.05, 79.4),
    "b2": (2.5e-4, 0.1, (1, 3), 0.0, 0.05, 82.1),
    "b3": (2.5e-4, 0.3, (2, 6), 0.0, 0.1, 83.5),
    "l1": (1.5e-4, 0.2, (2, 5), 0.0, 0.1, 84.5),
    "l2": (1.5e-4, 0.4, (2, 5), 0.0, 0.1, 85.1),
    "l3": (1.5e-4, 0.6, (2, 6), 0.2, 0.1, 85.8),
}

RECIPES = {
    f"efficientvit_{size}": Recipe(
        paper="Cai et al., arXiv 2205.14756, section 4.1",
        hardware="8 GPUs",
        top1=top1,
        model=f"efficientvit_{size}",
        model_settings={"drop_path_rate": drop_path},
        pipeline=deferred_images(
            f"efficientvit_{size}",
            batch_size=1024,
            augmentation=Augmentation(policy=RandAugment(*randaugment), erase=erase, mixup=alpha, cutmix=alpha),
            multi_scale=MultiScale((128, 160, 192, 224), constant_batch=True),
        ),
        hyperparameters=Hyperparameters(
            epochs=320,
            learning_rate=rate,
            learning_rate_batch=128,
            warmup_epochs=20,
            weight_decay=0.1,
            clip_norm=2.0,
            ema_decay=0.9998,
            loss="sigmoid",
            label_smoothing=0.1,
        ),
    )
    for size, (rate, alpha, randaugment, erase, drop_path, top1) in _SIZES.items()
}
