"""MLP-Mixer (Tolstikhin et al., arXiv 2105.01601, section 3 and appendix B).

    keras-vit train --recipe mixer_b16_imagenet --data DATA --run-dir runs/mixer

Pre-train on ImageNet-1k or ImageNet-21k with strong regularization. The authors measure the accuracies on ImageNet-1k,
those for ImageNet-21k after fine-tuning. The augmentation is that of AugReg with the magnitude of RandAugment and the
alpha of MixUp from the paper. The loss, the initial bias of the classifier and the last learning rate come from the
authors' configuration of Mixer-B/16 for ImageNet-1k (repository google-research/big_vision). They published none for
ImageNet-21k, where these recipes take the bias from their configuration of ViT.
"""

from dataclasses import replace

from keras_vit.training.augment import RandAugment
from keras_vit.training.recipes.augmentations import INCEPTION
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_PAPER = "Tolstikhin et al., arXiv 2105.01601"
_PRETRAINING = {  # Magnitude of RandAugment, alpha of MixUp, top-1 accuracy.
    ("mixer_b16", "imagenet"): (15, 0.5, 76.44),
    ("mixer_l16", "imagenet"): (15, 0.5, 71.76),
    ("mixer_b16", "imagenet21k"): (10, 0.2, 80.64),
    ("mixer_l16", "imagenet21k"): (20, 0.5, 82.89),
}
_DATA = {"imagenet": ("ImageNet-1k", -6.9), "imagenet21k": ("ImageNet-21k", -10.0)}  # Name, bias of the classifier.

RECIPES = {
    f"{model}_{data}": Recipe(
        paper=f"{_PAPER}, tables 3 and 4",
        hardware="TPU v3",
        top1=top1,
        data=_DATA[data][0],
        model=model,
        model_settings={"activation": "gelu_tanh", "head_initializer": "zeros", "drop_path_rate": 0.1},
        head_bias=_DATA[data][1],
        pipeline=deferred_images(
            model,
            batch_size=4096,
            augmentation=replace(
                INCEPTION,
                policy=RandAugment(2, magnitude, 0.0, 30.0, increasing=False, probability=1.0),
                mixup=mixup,
            ),
        ),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=1e-3,
            schedule="linear",
            warmup_steps=10_000,
            final_learning_rate=1e-5,
            weight_decay=0.1,
            clip_norm=1.0,
            loss="sigmoid",
            loss_settings={"sum_over_classes": True},
            label_smoothing=0.0,
        ),
    )
    for (model, data), (magnitude, mixup, top1) in _PRETRAINING.items()
}
