"""`keep_accuracy`: the layers that cost most stay in float until the loss of accuracy is within the limit."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import edge
from keras_vit.edge.files.tflite_graph import read_graph
from tests.edge.models import IMAGES, vit
from tests.edge.quantization.test_sensitivity import SPOILED, spoil

EVALUATED = np.random.default_rng(1).normal(size=(128, 16, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    """A model of which one layer loses much in int8, and that is sure of no image."""
    model = vit(depth=2)
    spoil(model)
    return model


@pytest.fixture(scope="module")
def labels(model):
    return np.asarray(model(EVALUATED)).argmax(-1)


@pytest.fixture(scope="module")
def quantized(model, labels):
    return edge.quantize_aware(model, calibration_data=IMAGES, keep_accuracy=5, accuracy_data=EVALUATED, labels=labels)


def top1(model, labels):
    return float((np.asarray(model(EVALUATED)).argmax(-1) == labels).mean())


def test_the_spoiled_layer_stays_in_float(model, labels, quantized, tmp_path):
    report = quantized.accuracy_report
    whole = edge.quantize_aware(model, calibration_data=IMAGES)
    assert report.kept[0] == SPOILED
    assert (report.float_accuracy, report.before, report.after) == (1, top1(whole, labels), top1(quantized, labels))
    assert report.before < 0.95 <= report.after
    kept = dict.fromkeys(report.kept, "float32")
    by_hand = edge.quantize_aware(model, calibration_data=IMAGES, overrides=kept)
    np.testing.assert_array_equal(quantized(EVALUATED), by_hand(EVALUATED))
    file = edge.export(quantized, tmp_path / "model.tflite")
    with open(file, "rb") as opened:
        kernels = {tensor.name: tensor.dtype for each in read_graph(opened.read()).operators for tensor in each.inputs}
    assert [kind for name, kind in kernels.items() if SPOILED in name and "MatMul" in name] == ["FLOAT32"]


def test_no_fewer_layers_would_do(model, labels, quantized):
    kept = quantized.accuracy_report.kept
    fewer = edge.quantize_aware(model, calibration_data=IMAGES, overrides=dict.fromkeys(kept[:-1], "float32"))
    assert top1(fewer, labels) < 0.95


def test_the_report(quantized):
    report = quantized.accuracy_report
    assert set(report.latency_ms) == {"float32", "quantized", "kept"} and all(report.latency_ms.values())
    lines = str(report).splitlines()
    assert lines[2].startswith("float32") and "100.00%" in lines[2]
    assert lines[5] == f"in float: {', '.join(report.kept)}"
    assert lines[6] == "128 images, at most 5 points lost, p50 measured on this machine with one thread"
    assert json.loads(json.dumps(report.to_dict()))["scheme"] == "hybrid_int8"


def test_nothing_is_kept_if_the_loss_is_small_anyway(model):
    dataset = tf.data.Dataset.from_tensor_slices(IMAGES).batch(8)
    quantized = edge.quantize_aware(model, calibration_data=dataset, keep_accuracy=100)
    report = quantized.accuracy_report
    assert report.kept == () and report.measure == "agreement" and report.before == report.after
    assert report.latency_ms == {} and len(str(report).splitlines()) == 5


@pytest.mark.slow
def test_overrides_and_operators_of_one_layer(model):
    settings = {"scheme": "full_int8", "overrides": {"head": "float32"}, "calibration_data": IMAGES}
    quantized = edge.quantize_aware(model, keep_accuracy=6.25, **settings)
    report = quantized.accuracy_report
    assert 1 - report.before > 0.0625 >= 1 - report.after
    names = {layer.name for layer in edge_layers(model)}
    assert report.kept and set(report.kept) < names


def edge_layers(model):
    import keras_vit

    return keras_vit.fuse(model).layers


class TestErrors:
    @pytest.mark.parametrize("limit", [-1, 101, True, "1", float("nan")])
    def test_limits(self, model, limit):
        with pytest.raises(ValueError, match="percentage points from 0 to 100; received"):
            edge.quantize_aware(model, calibration_data=IMAGES, keep_accuracy=limit)

    def test_labels_without_a_limit(self, model, labels):
        with pytest.raises(ValueError, match="are for keep_accuracy"):
            edge.quantize_aware(model, calibration_data=IMAGES, labels=labels)

    def test_no_images(self, model):
        with pytest.raises(ValueError, match="pass accuracy_data"):
            edge.quantize_aware(model, scheme="int8_weights", keep_accuracy=1)

    def test_too_few_labels(self, model, labels):
        with pytest.raises(ValueError, match="There are 5 labels for 16 images"):
            edge.quantize_aware(model, calibration_data=IMAGES, keep_accuracy=1, labels=labels[:5])

    def test_a_model_without_classes(self):
        image = keras.Input((8, 8, 3))
        model = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
        with pytest.raises(ValueError, match=r"class scores .* has the shape \(16, 8, 8, 3\)"):
            edge.quantize_aware(model, calibration_data=IMAGES[:, :8, :8], keep_accuracy=1)

    def test_what_cannot_be_kept(self):
        image = keras.Input((4,))
        model = keras.Model(image, keras.layers.Dense(100)(image))
        data = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        with pytest.raises(ValueError, match=r"cannot be kept within 0 percentage points: .* a single layer"):
            edge.quantize_aware(model, scheme="int4_weights", keep_accuracy=0, accuracy_data=data)
