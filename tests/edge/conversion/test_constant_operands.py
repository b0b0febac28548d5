"""A product of a constant and a tensor has the constant on the right in a file, where GPUs take it."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_vit import edge
from keras_vit.edge.files.tflite_graph import read_graph
from keras_vit.layers import FloatMatMul, LearnedTokens, MatMul

IMAGES = np.random.default_rng(0).standard_normal((8, 12, 16)).astype("float32")


@pytest.mark.parametrize("precision", ["float32", "hybrid_int8"])
@pytest.mark.parametrize("kind", [MatMul, FloatMatMul])
def test_learned_tokens_are_multiplied_from_the_right(tmp_path, kind, precision):
    features = keras.Input((12, 16))
    queries = keras.layers.Dense(16, name="query")(LearnedTokens(3, 16, name="tokens")(features))
    scores = kind(transpose_b=True, name="scores")(queries, features)  # (batch, 3, 12)
    context = kind(name="context")(keras.layers.Softmax(name="softmax")(scores), features)
    model = keras.Model(features, keras.layers.Dense(4, name="head")(context))

    calibration = {"calibration_data": IMAGES} if precision == "hybrid_int8" else {}
    file = edge.export(model, tmp_path / "model.tflite", precision, **calibration)
    products = [each for each in read_graph(Path(file).read_bytes()).operators if each.name == "BATCH_MATMUL"]
    assert [each.inputs[0].constant for each in products] == [False, False]
    assert any(each.inputs[1].constant for each in products)
    assert edge.verify(model, file, IMAGES).snr_db > (100 if precision == "float32" else 25)
