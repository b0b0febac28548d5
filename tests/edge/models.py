"""Small models, and the images they take."""

import keras
import numpy as np

import keras_vit

IMAGES = np.random.default_rng(0).normal(size=(16, 16, 16, 3)).astype("float32")


def vit(**settings) -> keras.Model:
    """Return a ViT for `IMAGES` with random weights, none of them so small that a branch would not matter."""
    keras.utils.set_random_seed(0)
    model = keras_vit.ViT(
        **{"input_shape": (16, 16, 3), "patch_size": 4, "width": 48, "depth": 1, "num_heads": 3, "classes": 5}
        | {"classifier_activation": None}
        | settings
    )
    random = np.random.default_rng(1)
    for variable in model.trainable_weights:
        scale = variable.shape[0] ** -0.5 if len(variable.shape) == 2 else 0.1
        variable.assign(random.normal(size=variable.shape) * scale + (variable.name == "gamma"))
    return model
