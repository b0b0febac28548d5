"""Vision transformers in Keras that go all the way to the device.

`keras_vit.training` and `keras_vit.edge` are imported when they are first used.
"""

import importlib

from keras_vit import layers
from keras_vit.attention import attention_distance, attention_maps, attention_rollout, position_similarity
from keras_vit.features import feature_extractor
from keras_vit.fusion import fuse
from keras_vit.graph import flatten
from keras_vit.models.info import count_macs, model_info
from keras_vit.models.registry import create_model, list_models
from keras_vit.models.vit import (
    ViT,
    ViT_B8,
    ViT_B16,
    ViT_B28,
    ViT_B32,
    ViT_G14,
    ViT_g14,
    ViT_H14,
    ViT_L16,
    ViT_L32,
    ViT_S16,
    ViT_S32,
    ViT_Ti16,
    ViT_XS16,
    ViT_XS28,
)
from keras_vit.rebuild import new_head, resize_model
from keras_vit.weights.load import load_weights

__version__ = "0.1.0"

__all__ = [
    "ViT",
    "ViT_B8",
    "ViT_B16",
    "ViT_B28",
    "ViT_B32",
    "ViT_G14",
    "ViT_H14",
    "ViT_L16",
    "ViT_L32",
    "ViT_S16",
    "ViT_S32",
    "ViT_Ti16",
    "ViT_XS16",
    "ViT_XS28",
    "ViT_g14",
    "attention_distance",
    "attention_maps",
    "attention_rollout",
    "count_macs",
    "create_model",
    "feature_extractor",
    "flatten",
    "fuse",
    "layers",
    "list_models",
    "load_weights",
    "model_info",
    "new_head",
    "position_similarity",
    "resize_model",
]


def __getattr__(name):
    if name in ("edge", "training"):
        return importlib.import_module(f"keras_vit.{name}")
    raise AttributeError(f"module 'keras_vit' has no attribute {name!r}")
