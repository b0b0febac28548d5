"""Published mobile models with random weights, and their files."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

import keras_vit
from keras_vit import edge
from tests.benchmarks.weights import randomize

# The settings of each model that are not its default. The divisor of EfficientViT's linear attention has an epsilon of
# 1e-15, which is zero in float16; timm's is not.
MODELS: dict[str, dict] = {
    "vit_ti16": {"input_shape": (96, 96, 3)},
    "mobilevit_xxs": {},
    "efficientvit_b1": {"attention_epsilon": 1e-5},
    "efficientvit_m2": {},
    "mobile_former_26m": {},
}
PRECISIONS = ("float32", "float16", "hybrid_int8", "int8_int16")


class Exported:
    """The files of a model by precision, and an image that it takes (1, H, W, C).

    Args:
        name: One of `MODELS`.
        folder: Where to write the files.
    """

    def __init__(self, name: str, folder: Path):
        keras.backend.clear_session()
        model = keras_vit.create_model(name, **MODELS[name])
        randomize(model)
        images = np.random.default_rng(0).standard_normal((8, *model.input_shape[1:])).astype(np.float32)
        self.image = images[:1]
        self.files = {}
        for precision in PRECISIONS:
            calibration = {"calibration_data": images} if edge.SCHEMES[precision].needs_ranges else {}
            path = folder / f"{name}.{precision}.tflite"
            self.files[precision] = edge.export(model, path, precision, verify=False, **calibration)
