"""ConvMixer (Trockman and Kolter, arXiv 2201.09792, section 3.1 and the authors' code).

    keras-vit train --recipe convmixer_768_32 --data DATA --run-dir runs/convmixer

The numbers come from the authors' command (repository locuslab/convmixer) and from the defaults of the script that it
runs. In their schedule, the learning rate rises for two fifths of the training, falls to a twentieth of its highest
value until four fifths, and then to zero. Here it falls in one straight line. The authors are confident that the
schedule is not critical.
"""

from keras_vit.training.augment import Augmentation, RandAugment
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters

_SIZES = {"convmixer_1536_20": (150, 81.37), "convmixer_768_32": (300, 80.16)}  # Epochs and top-1 accuracy.

RECIPES = {
    model: Recipe(
        paper="Trockman and Kolter, arXiv 2201.09792, section 3.1",
        hardware="10 GPUs",
        top1=top1,
        model=model,
        pipeline=deferred_images(
            model,
            batch_size=640,
            augmentation=Augmentation(policy=RandAugment(), erase=0.25, mixup=0.5, cutmix=0.5),
        ),
        hyperparameters=Hyperparameters(
            epochs=epochs,
            learning_rate=0.01,
            optimizer_settings={"epsilon": 1e-3},
            schedule="linear",
            warmup_epochs=0.4 * epochs,
            weight_decay=2e-5,
            clip_norm=1.0,
            label_smoothing=0.1,
        ),
    )
    for model, (epochs, top1) in _SIZES.items()
}
