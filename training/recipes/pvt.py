"""PVT (Wang et al., arXiv 2102.12122, section 5.1) and PVT v2 (arXiv 2106.13797, section 4.1).

    keras-vit train --recipe pvtv2_b2 --data DATA --run-dir runs/pvtv2_b2

Train DeiT's recipe for 300 epochs without distillation and without averaged weights. The numbers are the defaults of
the authors' script and those of their configuration of each model (whai362/PVT, classification): the larger models have
more stochastic depth and clip their gradients.
"""

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_LARGE = (0.3, 1.0)
_SMALL = (0.1, None)
_MODELS = {  # Stochastic depth and norm of the gradients, and top-1.
    "pvt_t": (_SMALL, 75.1),
    "pvt_s": (_SMALL, 79.8),
    "pvt_m": (_LARGE, 81.2),
    "pvt_l": (_LARGE, 81.7),
    "pvtv2_b0": (_SMALL, 70.5),
    "pvtv2_b1": (_SMALL, 78.7),
    "pvtv2_b2": (_SMALL, 82.0),
    "pvtv2_b2_li": (_SMALL, 82.1),
    "pvtv2_b3": (_LARGE, 83.1),
    "pvtv2_b4": (_LARGE, 83.6),
    "pvtv2_b5": (_LARGE, 83.8),
}

RECIPES = {
    model: Recipe(
        paper="Wang et al., arXiv 2106.13797, section 4.1, and the authors' configurations"
        if model.startswith("pvtv2")
        else "Wang et al., arXiv 2102.12122, section 5.1, and the authors' configurations",
        hardware="8 GPUs",
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": drop_path_rate},
        pipeline=deferred_images(model, batch_size=1024, augmentation=DEIT),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=5e-4,
            learning_rate_batch=512,
            warmup_epochs=5,
            warmup_learning_rate=1e-6,
            final_learning_rate=1e-5,
            cooldown_epochs=10,
            weight_decay=0.05,
            clip_norm=clip_norm,
            label_smoothing=0.1,
        ),
    )
    for model, ((drop_path_rate, clip_norm), top1) in _MODELS.items()
}
