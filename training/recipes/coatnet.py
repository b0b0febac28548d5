"""CoAtNet (Dai et al., arXiv 2106.04803, section 4.1 and appendix A.2).

    keras-vit train --recipe coatnet_0 --data DATA --run-dir runs/coatnet_0

Train for 300 epochs on ImageNet-1k, with more stochastic depth for larger models.
"""

from keras_vit.training.augment import Augmentation, RandAugment, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_SIZES = {  # Stochastic depth and top-1 accuracy at 224 x 224.
    "coatnet_0": (0.2, 81.6),
    "coatnet_1": (0.3, 83.3),
    "coatnet_2": (0.5, 84.1),
    "coatnet_3": (0.7, 84.5),
}

RECIPES = {
    model: Recipe(
        paper="Dai et al., arXiv 2106.04803, tables 10 and 13",
        hardware="TPU v3",
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": drop_path},
        pipeline=deferred_images(
            model,
            batch_size=4096,
            augmentation=Augmentation(
                RandomResizedCrop(interpolation="bilinear"),
                policy=RandAugment(2, 15, 0.0, 30.0, increasing=False, probability=1.0),
                mixup=0.8,
            ),
        ),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=1e-3,
            warmup_steps=10_000,
            final_learning_rate=1e-5,
            weight_decay=0.05,
            clip_norm=1.0,
            label_smoothing=0.1,
        ),
    )
    for model, (drop_path, top1) in _SIZES.items()
}
