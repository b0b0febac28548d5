"""XCiT (El-Nouby et al., arXiv 2106.09681, section 4.1 and the authors' code).

    keras-vit train --recipe xcit_small12_p16 --data DATA --run-dir runs/xcit

Train DeiT's recipe for 400 epochs. The numbers are those of the authors' command for XCiT-S12/16 on 16 GPUs (repository
facebookresearch/xcit) and the defaults of their script.
"""

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

RECIPES = {
    "xcit_small12_p16": Recipe(
        paper="El-Nouby et al., arXiv 2106.09681, section 4.1 and appendix B",
        hardware="16 GPUs",
        top1=82.0,
        model="xcit_small12_p16",
        model_settings={"drop_path_rate": 0.05},
        pipeline=deferred_images("xcit_small12_p16", batch_size=1024, augmentation=DEIT),
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
}
