"""iGPT, "Generative Pretraining from Pixels" (Chen et al., ICML 2020): predict the next pixel.

    keras-vit pretrain --recipe igpt_s --data DATA --run-dir runs/igpt

The length, the batches, Adam, the warm-up of one epoch, the half cosine to 0 and the absence of dropout are those of
the paper. The authors try the learning rates 0.01, 0.003, 0.001 and so on until the validation loss rises. Which of
them each size was trained with, and the crops, are not confirmed; those here are keras_vit's own choice.
"""

from keras_vit.training.augment import Augmentation, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import IGPT

_STEPS, _BATCH = 1_000_000, 128
_CROPS = Augmentation(RandomResizedCrop(((224 / 384) ** 2, (224 / 256) ** 2), ratio=(1.0, 1.0)))

RECIPES = {
    name: Recipe(
        paper="Chen et al., Generative Pretraining from Pixels; learning rate and crops are keras_vit's choice",
        model=name,
        method=IGPT(),
        pipeline=deferred_images(name, batch_size=_BATCH, augmentation=_CROPS),
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
