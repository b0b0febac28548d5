"""BEiT, masked image modeling (Bao et al., arXiv 2106.08254, appendices H and I).

    keras-vit pretrain --recipe beit_b16_tokenizer --data DATA --run-dir runs/tokenizer
    keras-vit pretrain --recipe beit_b16 --set tokenizer=runs/tokenizer/encoder.keras --data DATA --run-dir runs/beit
    keras-vit train --recipe beit_b16_finetune --weights runs/beit/encoder.keras --data DATA --run-dir runs/finetuned

Blocks of patches, 75 of 196, are hidden, and the encoder predicts the codes that a tokenizer gives them. The accuracies
are those of the paper's table 1, on ImageNet-1k after fine-tuning. The authors' tokenizer is that of DALL-E; the recipe
of a tokenizer here is keras_vit's own, and has not been run on ImageNet.
"""

from keras_vit.models.image_facts import IMAGENET
from keras_vit.training.augment import Augmentation, ColorJitter, RandAugment, RandomResizedCrop
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import BEiT, Tokenizer

_PAPER = "Bao et al., arXiv 2106.08254"
_SIZES = {  # Model, top-1 accuracy, and of the fine-tuning: learning rate, epochs, warm-up, layer decay, drop path.
    "beit_b16": ("beit_b16", 83.2, 4e-3, 100, 20, 0.65, 0.1),
    "beit_l16": ("beit_l16", 85.2, 1e-3, 50, 5, 0.75, 0.2),
}
_PRETRAINING = Augmentation(RandomResizedCrop(), jitter=ColorJitter(0.4, 0.4, 0.4))
_FINE_TUNING = Augmentation(policy=RandAugment(), erase=0.25, mixup=0.8, cutmix=1.0)

RECIPES = {
    "beit_b16_tokenizer": Recipe(
        paper="the settings of keras_vit's authors",
        model="beit_b16",
        method=Tokenizer(),
        pipeline=deferred_images("beit_b16", batch_size=512, augmentation=_PRETRAINING, statistics=IMAGENET),
        hyperparameters=Hyperparameters(
            epochs=30, learning_rate=1e-3, warmup_epochs=1, weight_decay=1e-4, clip_norm=1.0
        ),
    )
}
for _name, (_model, _top1, _rate, _epochs, _warmup, _layer_decay, _drop_path) in _SIZES.items():
    RECIPES[_name] = Recipe(
        paper=f"{_PAPER}, appendix H",
        hardware="16 V100 GPUs" if _name == "beit_b16" else "not published",
        time="5 days" if _name == "beit_b16" else "not published",
        top1=_top1,
        model=_model,
        model_settings={"drop_path_rate": 0.1},
        method=BEiT(),
        pipeline=deferred_images(_model, batch_size=2048, augmentation=_PRETRAINING, statistics=IMAGENET),
        hyperparameters=Hyperparameters(
            epochs=800,
            learning_rate=1.5e-3,
            warmup_epochs=10,
            final_learning_rate=1e-5,
            weight_decay=0.05,
            clip_norm=3.0,
        ),
    )
    RECIPES[f"{_name}_finetune"] = Recipe(
        paper=f"{_PAPER}, appendix I, and the authors' repository",
        top1=_top1,
        model=_model,
        model_settings={"drop_path_rate": _drop_path},
        pipeline=deferred_images(_model, batch_size=1024, augmentation=_FINE_TUNING, statistics=IMAGENET),
        hyperparameters=Hyperparameters(
            epochs=_epochs,
            learning_rate=_rate,
            layer_decay=_layer_decay,
            warmup_epochs=_warmup,
            final_learning_rate=1e-6,
            weight_decay=0.05,
            clip_norm=None,
            label_smoothing=0.1,
        ),
    )
