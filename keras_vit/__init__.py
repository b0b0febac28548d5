"""Vision transformers in Keras that go all the way to the device.

`keras_vit.training` and `keras_vit.edge` are imported when they are first used.
"""

import importlib

from keras_vit import layers
from keras_vit.graph.classifier import new_head
from keras_vit.graph.flattening import flatten
from keras_vit.graph.fusion import fuse
from keras_vit.graph.resizing import resize_model
from keras_vit.inspection.attention_maps import (
    attention_distance,
    attention_maps,
    attention_rollout,
    position_similarity,
)
from keras_vit.inspection.features import feature_extractor
from keras_vit.models.efficientvit.efficientvit import (
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
from keras_vit.models.efficientvit_msra.efficientvit_msra import (
    EfficientViT_M0,
    EfficientViT_M1,
    EfficientViT_M2,
    EfficientViT_M3,
    EfficientViT_M4,
    EfficientViT_M5,
    EfficientViT_MSRA,
)
from keras_vit.models.info import count_macs, model_info
from keras_vit.models.mobile_former.mobile_former import (
    MobileFormer,
    MobileFormer_26M,
    MobileFormer_52M,
    MobileFormer_96M,
    MobileFormer_151M,
    MobileFormer_214M,
    MobileFormer_294M,
    MobileFormer_508M,
)
from keras_vit.models.mobilevit.mobilevit import MobileViT, MobileViT_S, MobileViT_XS, MobileViT_XXS
from keras_vit.models.mobilevit.mobilevit_v2 import (
    MobileViTV2,
    MobileViTV2_050,
    MobileViTV2_075,
    MobileViTV2_100,
    MobileViTV2_125,
    MobileViTV2_150,
    MobileViTV2_175,
    MobileViTV2_200,
)
from keras_vit.models.preprocessing import preprocess_input
from keras_vit.models.registry import create_model, download_weights, list_models, list_weights
from keras_vit.models.vit.deit import (
    DeiT,
    DeiT3,
    DeiT3_B16,
    DeiT3_H14,
    DeiT3_L16,
    DeiT3_M16,
    DeiT3_S16,
    DeiT_B16,
    DeiT_B16_Distilled,
    DeiT_S16,
    DeiT_S16_Distilled,
    DeiT_Ti16,
    DeiT_Ti16_Distilled,
    average_heads,
)
from keras_vit.models.vit.vit import (
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
    "DeiT",
    "DeiT3",
    "DeiT3_B16",
    "DeiT3_H14",
    "DeiT3_L16",
    "DeiT3_M16",
    "DeiT3_S16",
    "DeiT_B16",
    "DeiT_B16_Distilled",
    "DeiT_S16",
    "DeiT_S16_Distilled",
    "DeiT_Ti16",
    "DeiT_Ti16_Distilled",
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
    "MobileFormer",
    "MobileFormer_26M",
    "MobileFormer_52M",
    "MobileFormer_96M",
    "MobileFormer_151M",
    "MobileFormer_214M",
    "MobileFormer_294M",
    "MobileFormer_508M",
    "MobileViT",
    "MobileViTV2",
    "MobileViTV2_050",
    "MobileViTV2_075",
    "MobileViTV2_100",
    "MobileViTV2_125",
    "MobileViTV2_150",
    "MobileViTV2_175",
    "MobileViTV2_200",
    "MobileViT_S",
    "MobileViT_XS",
    "MobileViT_XXS",
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
    "average_heads",
    "count_macs",
    "create_model",
    "download_weights",
    "feature_extractor",
    "flatten",
    "fuse",
    "layers",
    "list_models",
    "list_weights",
    "load_weights",
    "model_info",
    "new_head",
    "position_similarity",
    "preprocess_input",
    "resize_model",
]


def __getattr__(name):
    if name in ("edge", "training"):
        return importlib.import_module(f"keras_vit.{name}")
    raise AttributeError(f"module 'keras_vit' has no attribute {name!r}")
