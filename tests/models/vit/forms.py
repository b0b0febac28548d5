"""Small models of every form that ViT, DeiT and DeiT III take."""

import keras
import numpy as np

import keras_vit

TINY = dict(input_shape=(16, 16, 3), patch_size=4, width=24, depth=2, num_heads=3, classes=5)
FORMS = {
    "class token": (keras_vit.ViT, {}),
    "average": (keras_vit.ViT, dict(class_token=False, pooling="avg", norm_after_pooling=True)),
    "attention pooling": (keras_vit.ViT, dict(class_token=False, pooling="map", activation="gelu_tanh")),
    "registers": (keras_vit.ViT, dict(num_registers=2, position_on_class_token=False, layer_scale=0.1)),
    "registers, all positions": (keras_vit.ViT, dict(num_registers=2, pooling="avg")),
    "fixed positions": (
        keras_vit.ViT,
        dict(class_token=False, pooling="avg", position_embedding="sincos2d", representation_size=16),
    ),
    "MAE's positions": (keras_vit.ViT, dict(position_embedding="sincos2d_mae", pooling="avg", norm_after_pooling=True)),
    "for small data": (keras_vit.ViT, dict(shifted_patches=True, locality=True)),
    "DeiT": (keras_vit.DeiT, {}),
    "distilled DeiT": (keras_vit.DeiT, dict(distilled=True)),
    "DeiT III": (keras_vit.DeiT3, {}),
}


def images(count: int = 4) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 16, 16, 3)).astype("float32")


def form(which: str, /, **settings) -> keras.Model:
    """The form with random weights, none of them so small that a branch would not matter."""
    builder, given = FORMS[which]
    model = builder(**{**TINY, **given, **settings})
    random = np.random.default_rng(0)
    for variable in model.trainable_weights:
        spread = 0.1 if variable.name in ("gamma", "beta", "bias") else variable.shape[-2] ** -0.5
        variable.assign(random.normal(size=variable.shape) * spread + (variable.name == "gamma"))
    return model
