"""Small data sets from a new start (Lee et al., "Vision Transformer for Small-Size Datasets", arXiv 2112.13492).

    keras-vit train --recipe vit_small_data_64 --data DATA --run-dir runs/small

For images of 64 pixels, such as those of Tiny-ImageNet, or 32, such as CIFAR-100's: a narrow ViT with shifted patch
tokenization and locality self-attention. Its authors report a top-1 of 61.07 % on Tiny-ImageNet and 76.92 % on
CIFAR-100, where the same ViT without the two has 57.07 % and 73.81 %.

The numbers are the defaults of the authors' code, aanna0701/SPT_LSA_ViT. What differs here: stochastic depth rises
over the blocks to the rate that theirs all have; biases, factors and embeddings do not decay; class token and
positions start near 0, not from N(0, 1); the crop's rim is mirrored, not black; an erased box takes at most a third of
the image, not 0.4; and the policy of AutoAugment is ImageNet's, which they have for Tiny-ImageNet, for small images
too. Where the learning rate begins and ends could not be found; here it is 0.
"""

from keras_vit.models.image_facts import Statistics
from keras_vit.training.augment import Augmentation, AutoAugment, CenterCrop, SimpleRandomCrop
from keras_vit.training.data import Pipeline
from keras_vit.training.recipes.base import Recipe
from keras_vit.training.running.hyperparameters import Hyperparameters

_SETTINGS = {  # Image size: the data set that the statistics are of, the patch, the statistics.
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
