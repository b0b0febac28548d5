"""TNT (Han et al., arXiv 2103.00112, section 3.1).

    keras-vit train --recipe tnt_s --data DATA --run-dir runs/tnt_s

Train DeiT's recipe for 300 epochs. The numbers are those of the authors' command for TNT-S (huawei-noah/
Efficient-AI-Backbones, tnt_pytorch); the last learning rate and the epochs at it are the defaults of timm's script, on
which theirs is based.
"""

from keras_vit.training.recipes.augmentations import DEIT
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

RECIPES = {
    model: Recipe(
        paper="Han et al., arXiv 2103.00112, section 3.1, and the authors' command",
        hardware="8 GPUs",
        top1=top1,
        model=model,
        model_settings={"drop_path_rate": 0.1},
        pipeline=deferred_images(model, batch_size=1024, augmentation=DEIT),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=1e-3,
            learning_rate_batch=1024,
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
    for model, top1 in (("tnt_s", 81.5), ("tnt_b", 82.9))
}
