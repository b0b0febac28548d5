"""CaiT (Touvron et al., arXiv 2103.17239, section 5).

    keras-vit train --recipe cait_s24 --data DATA --run-dir runs/cait

Train DeiT's recipe for 400 epochs, with more stochastic depth for larger models. All other numbers are assumed to be
the defaults of DeiT's script, in whose repository (facebookresearch/deit) CaiT is published. Every size is trained on
images of 224 x 224 pixels. The accuracies are those without distillation and without fine-tuning at a higher
resolution.
"""

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_SIZES = {  # Stochastic depth and top-1 accuracy.
    "cait_xxs24": (0.05, 77.6),
    "cait_xs24": (0.05, 81.8),
    "cait_s24": (0.1, 82.7),
    "cait_s36": (0.2, 83.3),
}

RECIPES = {
    model: Recipe(
        paper="Touvron et al., arXiv 2103.17239, table 3",
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": drop_path},
        pipeline=deferred_images(model, image_size=224, batch_size=1024, augmentation=DEIT),
        hyperparameters=Hyperparameters(
            epochs=400,
            learning_rate=5e-4,
            learning_rate_batch=512,
            warmup_epochs=5,
            warmup_learning_rate=1e-6,
            final_learning_rate=1e-5,
            cooldown_epochs=10,
            weight_decay=0.05,
            clip_norm=None,
            ema_decay=0.99996,
            label_smoothing=0.1,
        ),
    )
    for model, (drop_path, top1) in _SIZES.items()
}
