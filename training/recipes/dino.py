"""DINO, self-distillation without labels (Caron et al., arXiv 2104.14294).

    keras-vit pretrain --recipe dino_s16 --data DATA --run-dir runs/dino

A student sees two large and eight small crops of each image, and learns to give the outputs that its teacher, an
average of its own past, gives for the large ones. The settings are those that the authors' repository recommends. Its
accuracies on ImageNet-1k with these settings are 73.3 % for k-NN and 76.1 % for a linear classifier of the frozen
features, which the recipe names. The models that the authors publish were trained for longer, with ten small crops:
74.5 % and 77.0 % for S/16, and 76.1 % and 78.2 % for B/16.
"""

from keras_vit.training.augment import multi_crop
from keras_vit.training.recipes.base import Recipe, deferred_images
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.self_supervised.methods import DINO

RECIPES = {
    "dino_s16": Recipe(
        paper="Caron et al., arXiv 2104.14294, section 3.2, and the authors' repository",
        hardware="16 GPUs",
        time="2.6 days",
        top1=76.1,
        model="vit_s16",
        model_settings={"drop_path_rate": 0.1},
        method=DINO(train_gain=True),
        pipeline=deferred_images("vit_s16", batch_size=1024, augmentation=multi_crop()),
        hyperparameters=Hyperparameters(
            epochs=300,
            learning_rate=5e-4,
            learning_rate_batch=256,
            warmup_epochs=10,
            final_learning_rate=1e-6,
            weight_decay=0.04,
            final_weight_decay=0.4,
            clip_norm=None,
            clip_variable_norm=3.0,
        ),
    )
}
