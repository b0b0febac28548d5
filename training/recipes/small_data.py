"""Small data sets without pre-training (Lee et al., "Vision Transformer for Small-Size Datasets", arXiv 2112.13492).

    keras-vit train --recipe vit_small_data_64 --data DATA --run-dir runs/small

Train a narrow ViT with shifted patch tokenization and locality self-attention on images of 64 pixels, such as
Tiny-ImageNet, or of 32 pixels, such as CIFAR-100. The authors report a top-1 accuracy of 61.07 % on Tiny-ImageNet and
76.92 % on CIFAR-100; without the two changes, the same ViT reaches 57.07 % and 73.81 %.

The numbers are the defaults of the authors' code, aanna0701/SPT_LSA_ViT, with these differences:

- The rate of stochastic depth increases from block to block up to the given rate. In their code, all blocks use it.
- Biases, scaling factors and embeddings are excluded from weight decay.
- The class token and the position embeddings are initialized close to 0 rather than from N(0, 1).
- The padding of the random crop mirrors the image rather than being black.
- A random erasing box covers at most a third of the image rather than 0.4 of it.
- AutoAugment uses the ImageNet policy for both data sets. They use it for Tiny-ImageNet only.
- The learning rate starts and ends at 0, since we could not find the values that they used.
"""

from keras_vit.models.image_facts import Statistics
from keras_vit.training.augment import Augmentation, AutoAugment, CenterCrop, SimpleRandomCrop
from keras_vit.training.data import Pipeline
from keras_vit.training.recipes.base import Recipe
from keras_vit.training.running.hyperparameters import Hyperparameters

_SETTINGS = {  # By image size: the data set, the patch size, and the data set's statistics.
    64: ("Tiny-ImageNet", 8, Statistics((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821))),
    32: ("CIFAR-100", 4, Statistics((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))),
}

RECIPES = {
    f"vit_small_data_{image_size}": Recipe(
        paper="Lee et al., arXiv 2112.13492, and the authors' code",
        data=data,
        model="ViT",
        model_settings={
            "patch_size": patch_size,
            "width": 192,
            "depth": 9,
            "num_heads": 12,
            "mlp_dim": 384,
            "qkv_bias": False,
            "epsilon": 1e-5,
            "shifted_patches": True,
            "locality": True,
            "drop_path_rate": 0.1,
        },
        pipeline=Pipeline(
            image_size=image_size,
            batch_size=128,
            statistics=statistics,
            evaluation=CenterCrop(1.0),
            augmentation=Augmentation(
                SimpleRandomCrop(padding=4),
                policy=AutoAugment(),
                erase=0.25,
                mixup=1.0,
                cutmix=1.0,
                mix_probability=0.5,
                repeats=3,
            ),
        ),
        hyperparameters=Hyperparameters(
            epochs=100,
            learning_rate=1e-3,
            warmup_epochs=10,
            weight_decay=0.05,
            clip_norm=None,
            label_smoothing=0.1,
        ),
    )
    for image_size, (data, patch_size, statistics) in _SETTINGS.items()
}
