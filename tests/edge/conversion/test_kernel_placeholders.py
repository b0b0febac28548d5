"""Large kernels, which the converter does not see, are in the file as the model has them."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.edge.conversion import kernel_placeholders

IMAGES = np.random.default_rng(0).normal(size=(6, 8, 8, 32)).astype("float32")


@pytest.fixture(scope="module")
def model():
    """A model with large kernels in every place: see the names of the layers."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 32))
    x = keras.layers.Conv2D(128, 3, padding="same", activation="relu", name="convolution")(image)
    x = keras.layers.Conv2D(128, 1, name="pointwise")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = keras.layers.Conv2D(128, 3, strides=2, groups=2, padding="same", name="grouped")(x)
    x = keras.layers.Reshape((16, 128))(x)
    x = keras.layers.Dense(128, activation="gelu", name="sequence")(x)
    twice = keras.layers.Dense(128, name="twice")
    x = twice(keras.layers.Activation("tanh")(twice(x)))
    tokens = keras.layers.Dense(128, name="of_a_constant")(keras_vit.layers.LearnedTokens(4, 128)(x))
    x = keras.layers.Concatenate(axis=1)([x, tokens])
    x = keras.layers.Multiply()([keras.layers.Dense(128, name=name)(x) for name in ("one_branch", "other_branch")])
    x = keras.layers.Dense(128, name="behind_constants")(keras.layers.Rescaling(1.5, offset=0.5)(x))
    x = keras.layers.Dense(128, use_bias=False, name="without_bias")(keras.layers.GlobalAveragePooling1D()(x))
    model = keras.Model(image, keras.layers.Dense(130, name="head")(x))
    random = np.random.default_rng(1)
    for variable in model.trainable_weights:
        scale = np.prod(variable.shape[:-1]) ** -0.5 if len(variable.shape) > 1 else 0.1
        variable.assign(random.normal(size=variable.shape) * scale)
    return model


@pytest.mark.parametrize("precision", ["float32", "float16", "hybrid_int8", "dynamic_int8"])
def test_a_file_has_the_kernels_of_its_model(precision, model, tmp_path):
    settings = {"calibration_data": IMAGES} if precision == "hybrid_int8" else {}
    file = edge.export(model, tmp_path / "model.tflite", precision, **settings)
    result = edge.verify(model, file, IMAGES)
    assert result.snr_db > {"float32": 110, "float16": 50, "hybrid_int8": 20, "dynamic_int8": 25}[precision]


@pytest.mark.parametrize("precision", ["float32", "dynamic_int8"])
def test_the_file_is_that_of_a_conversion_with_all_kernels(precision, model, tmp_path, monkeypatch):
    files = []
    for least in (kernel_placeholders._LEAST_SIZE, 2**40):
        monkeypatch.setattr(kernel_placeholders, "_LEAST_SIZE", least)
        files.append(edge.export(model, tmp_path / f"{least}.tflite", precision, verify=False))
    result = edge.verify(*files, IMAGES)
    assert result.max_abs_error == 0
    assert abs(len(Path(files[0]).read_bytes()) - len(Path(files[1]).read_bytes())) < 4096
