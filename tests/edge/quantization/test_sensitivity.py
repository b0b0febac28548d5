"""The layer that loses most by quantization is found, and keeping it in float brings the accuracy back."""

import json

import keras
import numpy as np
import pytest

from keras_vit import edge
from tests.edge.models import IMAGES, vit

SPOILED = "block_1.mlp.contract"


def spoil(model):
    """Give a layer an outlier in the kernel of each output channel, so that its grid is coarse.

    The input that the outliers multiply is always zero, so the float model is as before.
    """
    expand, contract = (model.get_layer("block_1").mlp.expand, model.get_layer("block_1").mlp.contract)
    for variable, index in ((expand.kernel, np.s_[:, 0]), (expand.bias, np.s_[0])):
        values = np.array(variable)
        values[index] = 0
        variable.assign(values)
    kernel = np.array(contract.kernel)
    kernel[0] = np.where(np.arange(kernel.shape[1]) % 2, 40, -40)  # Of mean zero, which fusing would subtract.
    contract.kernel.assign(kernel)


@pytest.fixture(scope="module")
def spoiled():
    """A model of which one layer loses much by quantization."""
    model = vit(depth=3)
    spoil(model)
    return model


@pytest.fixture(scope="module")
def labels(spoiled):
    return np.asarray(spoiled(IMAGES)).argmax(-1)


@pytest.fixture(scope="module")
def result(spoiled, labels):
    return edge.sensitivity(spoiled, IMAGES, labels=labels)


def snr_db(expected, given):
    expected, given = (np.asarray(each, np.float64) for each in (expected, given))
    return 10 * np.log10(np.square(expected).sum() / np.square(expected - given).sum())


def test_the_spoiled_layer_is_first(result):
    first, second = result.rows[:2]
    assert first.layer == SPOILED
    assert first.snr_db < second.snr_db - 10
    assert [row.snr_db for row in result.rows] == sorted(row.snr_db for row in result.rows)
    assert result.float_top1 == 1.0 and first.top1 <= 1.0
    # Eight products in each of three blocks, the patches, and the head.
    assert len(result.rows) == 3 * 8 + 2


def test_in_float_it_costs_nothing(spoiled, result):
    before, after = (
        edge.quantize_aware(spoiled, calibration_data=IMAGES, overrides=overrides)
        for overrides in (None, {result.rows[0].layer: "float32"})
    )
    expected = spoiled(IMAGES)
    assert snr_db(expected, before(IMAGES)) == pytest.approx(result.snr_db, abs=0.1)
    assert snr_db(expected, after(IMAGES)) > result.snr_db + 10
    assert edge.sensitivity(after, IMAGES).rows[0].layer != SPOILED


def test_one_layer_alone_is_the_model_with_all_others_in_float(spoiled, result):
    name = "block_2.mlp.expand"
    others = {row.layer: "float32" for row in result.rows if row.layer != name}
    alone = edge.quantize_aware(spoiled, calibration_data=IMAGES, overrides=others, bias_correction=False)
    row = next(row for row in result.rows if row.layer == name)
    assert snr_db(spoiled(IMAGES), alone(IMAGES)) == pytest.approx(row.snr_db, abs=0.1)


def test_weights_alone(spoiled):
    result = edge.sensitivity(spoiled, IMAGES[:4], "int8_weights")
    assert result.rows[0].layer == SPOILED and result.top1 is None


def test_it_prints_a_table_and_draws_a_figure(result, tmp_path):
    lines = str(result).splitlines()
    assert SPOILED in lines[2] and lines[-2].startswith("all, hybrid_int8") and lines[-1].startswith("none")
    assert json.loads(json.dumps(result.to_dict()))["rows"][0]["layer"] == SPOILED
    figure = result.figure(layers=5)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [row.layer for row in result.rows[:5]]


def test_a_dataset_with_labels(spoiled, labels):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, keras.utils.to_categorical(labels, 5))).batch(8)
    assert edge.sensitivity(spoiled, dataset).float_top1 == 1.0
