"""Fine-tuning on your own images, starting from published weights or from your own.

    keras-vit train --recipe transfer --data FOLDER --run-dir runs/mine
    keras-vit train --recipe transfer_mobile --model mobilevit_s --data FOLDER --run-dir runs/mine

`transfer` is the procedure of AugReg (Steiner et al., arXiv 2106.10270, section 3.4): SGD without weight decay. Choose
the number of steps by the size of the data set (500 for a thousand images, 2,500 for about ten thousand, 20,000 for a
million), and try a few learning rates (0.001, 0.003, 0.01 and 0.03 for a batch size of 512). `transfer_mobile`
fine-tunes models with convolutions, using AdamW. Their batch statistics require images that look like those of
pre-training.
"""

from keras_vit.training.augment import Augmentation, RandAugment, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_GENTLE = RandomResizedCrop(scale=(0.25, 1.0))

RECIPES = {
    "transfer": Recipe(
        paper="Steiner et al., arXiv 2106.10270, section 3.4",
        data="your own",
        model="vit_s16",
        weights="augreg_in21k",
        pipeline=deferred_images("vit_s16", "augreg_in21k", batch_size=64, augmentation=Augmentation(_GENTLE)),
        hyperparameters=Hyperparameters(
            steps=2500,
            learning_rate=0.03,
            learning_rate_batch=512,
            optimizer="sgd",
            optimizer_settings={"momentum": 0.9},
            warmup_steps=100,
            weight_decay=0.0,
            clip_norm=1.0,
            label_smoothing=0.0,
        ),
    ),
    "transfer_mobile": Recipe(
        paper="the settings of keras_vit's authors",
        data="your own",
        model="mobilevit_s",
        weights="cvnets_in1k",
        pipeline=deferred_images(
            "mobilevit_s",
            "cvnets_in1k",
            batch_size=64,
            augmentation=Augmentation(_GENTLE, policy=RandAugment(magnitude=5), mixup=0.2),
        ),
        hyperparameters=Hyperparameters(
            epochs=30,
            learning_rate=3e-4,
            warmup_epochs=2,
            weight_decay=0.05,
            clip_norm=1.0,
            ema_decay=0.999,
            ema_warmup=True,
            label_smoothing=0.1,
        ),
    ),
}
