"""iGPT, "Generative Pretraining from Pixels" (Chen et al., ICML 2020): predict the next pixel.

    keras-vit pretrain --recipe igpt_s --data DATA --run-dir runs/igpt

The settings are those of section 3.4: a million batches of 128 images, with Adam, a warm-up of one epoch and a half
cosine to 0, and no dropout. The paper names the learning rates that the authors try, 0.01, 0.003, 0.001 and so on,
until the validation loss rises, but not the one they choose for each size; the second of them here is keras_vit's own
choice. An image is a random square crop of 0.34 to 0.77 of the area, resized to 32 pixels; the authors crop 224 pixels
from images whose shorter side is 256 to 384 pixels.
"""

from keras_vit.training.augment import Augmentation, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, images
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import IGPT

_STEPS, _BATCH = 1_000_000, 128
_CROPS = Augmentation(RandomResizedCrop(((224 / 384) ** 2, (224 / 256) ** 2), ratio=(1.0, 1.0)))

RECIPES = {
    name: Recipe(
        paper="Chen et al., Generative Pretraining from Pixels, section 3.4; the learning rate is keras_vit's choice",
        model=name,
        method=IGPT(),
        pipeline=images(name, batch_size=_BATCH, augmentation=_CROPS),
        hyperparameters=Hyperparameters(
            steps=_STEPS,
            learning_rate=3e-3,
            optimizer_settings={"beta_2": 0.95},
            warmup_epochs=1,
            weight_decay=0.0,
            clip_norm=None,
        ),
    )
    for name in ("igpt_s", "igpt_m", "igpt_l")
}
