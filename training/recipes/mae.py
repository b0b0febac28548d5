"""MAE, masked autoencoders (He et al., arXiv 2111.06377, appendix A.1).

    keras-vit pretrain --recipe mae_b16 --data DATA --run-dir runs/mae
    keras-vit train --recipe mae_b16_finetune --weights runs/mae/encoder.keras --data DATA --run-dir runs/finetuned

The encoder sees a quarter of the patches, and a small decoder predicts the pixels of the others, normalized patch by
patch. Random crops and flips are the only augmentation. The accuracies are those of the authors' repository, on
ImageNet-1k after fine-tuning; the authors' head of the fine-tuning takes the mean of the patches.
"""

from typing import Any

from keras_vit.training.augment import Augmentation, RandAugment, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import MAE

_PAPER = "He et al., arXiv 2111.06377"
_SIZES = {  # Model, top-1 accuracy, and of the fine-tuning: learning rate, epochs, layer decay, stochastic depth.
    "mae_b16": ("vit_b16", 83.664, 5e-4, 100, 0.65, 0.1),
    "mae_l16": ("vit_l16", 85.952, 1e-3, 50, 0.75, 0.2),
    "mae_h14": ("vit_h14", 86.928, 1e-3, 50, 0.75, 0.3),
}
_CROPS = Augmentation(RandomResizedCrop(scale=(0.2, 1.0)))
_FINE_TUNING = Augmentation(policy=RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0)
_HEAD: dict[str, Any] = {"pooling": "avg", "norm_after_pooling": True, **MAE.encoder_settings}

RECIPES = {}
for _name, (_model, _top1, _rate, _epochs, _layer_decay, _drop_path) in _SIZES.items():
    RECIPES[_name] = Recipe(
        paper=f"{_PAPER}, table 8",
        hardware="128 TPU v3 cores" if _name == "mae_l16" else "not published",
        time="31 hours" if _name == "mae_l16" else "not published",
        top1=_top1,
        model=_model,
        method=MAE(),
        pipeline=deferred_images(_model, batch_size=4096, augmentation=_CROPS),
        hyperparameters=Hyperparameters(
            epochs=1600,
            learning_rate=1.5e-4,
            learning_rate_batch=256,
            optimizer_settings={"beta_2": 0.95},
            warmup_epochs=40,
            weight_decay=0.05,
            clip_norm=None,
        ),
    )
    RECIPES[f"{_name}_finetune"] = Recipe(
        paper=f"{_PAPER}, table 9",
        top1=_top1,
        model=_model,
        model_settings={**_HEAD, "drop_path_rate": _drop_path},
        pipeline=deferred_images(_model, batch_size=1024, augmentation=_FINE_TUNING),
        hyperparameters=Hyperparameters(
            epochs=_epochs,
            learning_rate=_rate,
            learning_rate_batch=256,
            layer_decay=_layer_decay,
            warmup_epochs=5,
            final_learning_rate=1e-6,
            weight_decay=0.05,
            clip_norm=None,
            label_smoothing=0.1,
        ),
    )
