"""Instance discrimination with multi-crop and CutMix, for data sets of a few thousand images (arXiv 2201.10728).

    keras-vit pretrain --recipe idmm_deit_ti16 --data DATA --run-dir runs/idmm
    keras-vit train --recipe idmm_deit_ti16_finetune --weights runs/idmm/encoder.keras --data DATA --run-dir runs/tuned

Each training image is a class of its own. Two large and four small crops of an image, all resized to 112 pixels, are
mixed by CutMix within each of the two groups. The authors train on the 2,040 images of Oxford Flowers-102, fine-tune at
224 pixels, and then, with `idmm_deit_ti16_finetune_448`, at 448 pixels. Their fine-tuning alternates between MixUp and
CutMix by epoch, and here each batch draws one of the two. Their RandAugment draws its magnitudes uniformly and also
cuts out squares, and here it is that of DeiT.

Their code differs from the paper in two places, which the recipe does not repeat: it normalizes the first channel by
0.228, where 0.229 is meant, and its cosine schedule subtracts the warm-up from the wrong term. The average of the
weights that it keeps is left out: it is updated once an epoch with a momentum of 0.999, so that after 800 epochs nearly
half of it are the initial weights.
"""

from keras_vit.training.augment import Augmentation, CenterCrop, ColorJitter, RandAugment, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import InstanceDiscrimination


def _view(scale):
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.2, probability=0.8)
    return Augmentation(RandomResizedCrop(scale), jitter=jitter, gray=0.2, blur=0.5)


_PAPER = "Cao and Yu, arXiv 2201.10728, and the authors' repository"
_DATA = "Oxford Flowers-102"
_FINE_TUNING = Augmentation(
    policy=RandAugment(),
    jitter=ColorJitter(0.4, 0.4, 0.4, 0.1, probability=0.4),
    gray=0.2,
    mixup=0.5,
    cutmix=0.5,
)

RECIPES = {
    "idmm_deit_ti16": Recipe(
        paper=_PAPER,
        data=_DATA,
        model="deit_ti16",
        model_settings={"drop_path_rate": 0.1},
        method=InstanceDiscrimination(),
        pipeline=deferred_images(
            "deit_ti16",
            image_size=112,
            batch_size=256,
            augmentation=(*[_view((0.14, 1.0))] * 2, *[_view((0.05, 0.4))] * 4),
        ),
        hyperparameters=Hyperparameters(
            epochs=800,
            learning_rate=5e-4,
            warmup_epochs=2,
            weight_decay=1e-3,
            clip_norm=None,
        ),
    )
}
for _name, _size, _batch, _epochs, _rate in (
    ("idmm_deit_ti16_finetune", 224, 256, 200, 5e-4),
    ("idmm_deit_ti16_finetune_448", 448, 128, 100, 5e-5),
):
    RECIPES[_name] = Recipe(
        paper=_PAPER,
        data=_DATA,
        model="deit_ti16",
        model_settings={"drop_path_rate": 0.1},
        pipeline=deferred_images(
            "deit_ti16",
            image_size=_size,
            batch_size=_batch,
            augmentation=_FINE_TUNING,
            evaluation=CenterCrop(0.875),
        ),
        hyperparameters=Hyperparameters(
            epochs=_epochs,
            learning_rate=_rate,
            warmup_epochs=2,
            weight_decay=1e-3,
            clip_norm=None,
            label_smoothing=0.1,
        ),
    )
