"""Instance discrimination with multi-crop and CutMix, for data sets of a few thousand images (arXiv 2201.10728).

    keras-vit pretrain --recipe idmm_deit_ti16 --data DATA --run-dir runs/idmm

Each training image is a class of its own. Two large and four small crops of an image, all resized to 112 pixels, are
mixed by CutMix within each of the two groups. The authors train on the 2,040 images of Oxford Flowers-102 and then
fine-tune at 224 pixels.

Their code differs from the paper in two places, which the recipe does not repeat: it normalizes the first channel by
0.228, where 0.229 is meant, and its cosine schedule subtracts the warm-up from the wrong term. The average of the
weights that it keeps is left out: it is updated once an epoch with a momentum of 0.999, so that after 800 epochs nearly
half of it are the initial weights.
"""

from keras_vit.training.augment import Augmentation, ColorJitter, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, images
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import InstanceDiscrimination


def _view(scale):
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.2, probability=0.8)
    return Augmentation(RandomResizedCrop(scale), jitter=jitter, gray=0.2, blur=0.5)


RECIPES = {
    "idmm_deit_ti16": Recipe(
        paper="Cao and Yu, arXiv 2201.10728, and the authors' repository",
        data="Oxford Flowers-102",
        model="deit_ti16",
        model_settings={"drop_path_rate": 0.1},
        method=InstanceDiscrimination(),
        pipeline=images(
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
