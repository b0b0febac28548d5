"""NAT (Hassani et al., arXiv 2204.07143, section 4.1) and DiNAT (Hassani and Shi, arXiv 2209.15001, section 4.1).

    keras-vit train --recipe nat_mini --data DATA --run-dir runs/nat_mini

Train for 300 epochs, and 10 more at the lowest learning rate, with the augmentation of DeiT without repeated
augmentation. The numbers are those of the authors' configurations (SHI-Labs/Neighborhood-Attention-Transformer,
classification/configs) and the defaults of their script. Their settings also list color jitter, but timm does not apply
it together with RandAugment.
"""

from dataclasses import replace

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_TRAININGS = {  # Model: stochastic depth, top-1.
    "nat_mini": (0.2, 81.8),
    "nat_tiny": (0.2, 83.2),
    "nat_small": (0.3, 83.7),
    "nat_base": (0.5, 84.3),
    "dinat_mini": (0.2, 81.8),
    "dinat_tiny": (0.2, 82.7),
    "dinat_small": (0.3, 83.8),
    "dinat_base": (0.5, 84.4),
}

RECIPES = {
    model: Recipe(
        paper="Hassani and Shi, arXiv 2209.15001, section 4.1, and the authors' configurations"
        if model.startswith("dinat")
        else "Hassani et al., arXiv 2204.07143, section 4.1, and the authors' configurations",
        hardware="8 GPUs",
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": drop_path_rate},
        pipeline=deferred_images(model, batch_size=1024, augmentation=replace(DEIT, repeats=1)),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=1e-3,
            warmup_epochs=20,
            warmup_learning_rate=1e-6,
            final_learning_rate=5e-6,
            cooldown_epochs=10,
            weight_decay=0.05,
            clip_norm=5.0,
            label_smoothing=0.1,
        ),
    )
    for model, (drop_path_rate, top1) in _TRAININGS.items()
}
