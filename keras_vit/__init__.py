"""Vision transformers in Keras that go all the way to the device.

`keras_vit.training` and `keras_vit.edge` are imported when they are first used.
"""

import importlib

from keras_vit import layers
from keras_vit.fusion import fuse
from keras_vit.graph import flatten
from keras_vit.models.efficientvit import (
    EfficientViT,
    EfficientViT_B0,
    EfficientViT_B1,
    EfficientViT_B2,
    EfficientViT_B3,
    EfficientViT_L0,
    EfficientViT_L1,
    EfficientViT_L2,
    EfficientViT_L3,
)
from keras_vit.models.efficientvit_msra import (
    EfficientViT_M0,
    EfficientViT_M1,
    EfficientViT_M2,
    EfficientViT_M3,
    EfficientViT_M4,
    EfficientViT_M5,
    EfficientViT_MSRA,
)
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
from keras_vit.weights.load import load_weights

__version__ = "0.1.0"

__all__ = [
    "EfficientViT",
    "EfficientViT_B0",
    "EfficientViT_B1",
    "EfficientViT_B2",
    "EfficientViT_B3",
    "EfficientViT_L0",
    "EfficientViT_L1",
    "EfficientViT_L2",
    "EfficientViT_L3",
    "EfficientViT_M0",
    "EfficientViT_M1",
    "EfficientViT_M2",
    "EfficientViT_M3",
    "EfficientViT_M4",
    "EfficientViT_M5",
    "EfficientViT_MSRA",
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
    "count_macs",
    "create_model",
    "flatten",
    "fuse",
    "layers",
    "list_models",
    "load_weights",
    "model_info",
]


def __getattr__(name):
    if name in ("edge", "training"):
        return importlib.import_module(f"keras_vit.{name}")
    raise AttributeError(f"module 'keras_vit' has no attribute {name!r}")
