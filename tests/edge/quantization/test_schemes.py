"""Schemes say what becomes an integer; overrides choose by layer; weights alone can be integers too."""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.edge.files.tflite_graph import read_graph
from keras_vit.edge.quantization.fake_quant import FakeQuant, QuantizedConv2D, QuantizedDense
from tests.edge.models import IMAGES, vit


def kernels(path) -> dict[str, str]:
    """Return the types of the kernels of products, by the layer."""
    with open(path, "rb") as file:
        operators = read_graph(file.read()).operators
    stored = {op.outputs[0].name: op.inputs[0].dtype for op in operators if op.name == "DEQUANTIZE"}
    types = {}
    for op in operators:
        if op.name in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"):
            # The output of the graph has lost the name of its layer.
            found = re.findall(r"[\w.]*(?:block_\d|embedding|head)[\w.]*?(?=_1\b|[/;]|$)", op.outputs[0].name)
            types[found[0] if found else op.outputs[0].name] = stored.get(op.inputs[1].name, op.inputs[1].dtype)
    return types


def rounded(kernel, bits):
    """Round a kernel by the definition: symmetric, one range for each output channel."""
    limit = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    step = limit / (2 ** (bits - 1) - 1)
    return np.round(kernel / step) * step


def with_rounded_kernels(model, bits):
    """Return the fused model with kernels rounded by the definition."""
    fused = keras_vit.fuse(model)
    for layer in fused.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(rounded(np.asarray(layer.kernel), bits))
    return fused


@pytest.mark.parametrize(("scheme", "bits", "dtype"), [("int8_weights", 8, "INT8"), ("int4_weights", 4, "INT4")])
def test_only_the_kernels_are_integers(scheme, bits, dtype, tmp_path):
    model = vit(width=96)
    trained = edge.quantize_aware(model, scheme=scheme)  # Without images: there are no ranges.
    assert not [layer for layer in trained.layers if isinstance(layer, FakeQuant)]
    exact = scheme == "int8_weights"
    paths = [
        edge.export(trained, tmp_path / "trained.tflite"),
        edge.export(model, tmp_path / "after.tflite", scheme),
        edge.export(model, tmp_path / "float.tflite"),
    ]
    if exact:
        np.testing.assert_allclose(trained(IMAGES), with_rounded_kernels(model, bits)(IMAGES), atol=2e-5)
    for path in paths[:2]:
        types = kernels(path)
        # Convolutions have eight bits. So has the head, whose outputs are too few for the runtime to be faster.
        assert {types.pop(next(iter(types))), types.pop(list(types)[-1])} == {"INT8"}
        assert set(types.values()) == {dtype}
        # The runtime also rounds the inputs of products, to the range of each image, if the kernels have four bits.
        result = edge.verify(trained, path, IMAGES)
        assert result.max_relative_error < 1e-5 if exact else result.snr_db > 30
        assert edge.audit(path).partitions == 1
    assert os.path.getsize(paths[0]) < (0.45 if bits == 8 else 0.36) * os.path.getsize(paths[2])


def test_some_kernels_have_eight_bits_all_the_same(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(64, 3, name="dense_kernel")(image)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.Conv2D(16, 1, name="few_uses")(x)
    x = keras.layers.Dense(64, name="hidden")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.layers.Dense(64, name="head")(x))
    trained = edge.quantize_aware(model, scheme="int4_weights")
    path = edge.export(trained, tmp_path / "model.tflite")
    assert sorted(kernels(path).values()) == ["INT4", "INT4", "INT8", "INT8", "INT8"]
    assert edge.verify(trained, path, IMAGES).snr_db > 30


def test_an_override_keeps_layers_in_float(tmp_path):
    model = vit(depth=2)
    quantized = edge.quantize_aware(
        model,
        calibration_data=IMAGES,
        overrides={"head": "float32", "block_*.mlp": "float32", "block_1.mlp.expand": "hybrid_int8"},
    )
    rounds = {layer.name for layer in quantized.layers if isinstance(layer, (QuantizedDense, QuantizedConv2D))}
    assert "head" not in rounds and "block_0.mlp.expand" not in rounds
    assert "block_1.mlp.expand" in rounds and "block_0.attention.query" in rounds
    path = edge.export(quantized, tmp_path / "model.tflite")
    types = kernels(path)
    assert {types[name] for name in ("block_0.mlp.expand", "block_0.mlp.contract", "block_1.mlp.contract")} == {
        "FLOAT32"
    }
    assert types["block_1.mlp.expand"] == types["block_0.attention.query"] == "INT8"
    assert edge.verify(quantized, path, IMAGES).snr_db > 30
    after = edge.export(
        model, tmp_path / "after.tflite", "hybrid_int8", calibration_data=IMAGES, overrides={"block_*": "float32"}
    )
    assert {kind for name, kind in kernels(after).items() if name.startswith("block_")} == {"FLOAT32"}
    assert edge.verify(model, after, IMAGES).snr_db > edge.verify(model, path, IMAGES).snr_db


def test_the_scheme_is_saved_with_the_model(tmp_path):
    scheme = edge.Scheme("mine", weights="int8", activations="int8", overrides={"head": "int8_weights"})
    quantized = edge.quantize_aware(vit(), scheme=scheme, calibration_data=IMAGES)
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    first, second = (edge.export(each, tmp_path / f"{i}.tflite") for i, each in enumerate((quantized, loaded)))
    assert Path(first).read_bytes() == Path(second).read_bytes()
    assert edge.verify(loaded, second, IMAGES).snr_db > 25


class TestBadInput:
    def test_an_override_that_matches_nothing(self):
        with pytest.raises(ValueError, match=r"'mlp' matches no layer\. Layers start with block_0"):
            edge.quantize_aware(vit(), calibration_data=IMAGES, overrides={"mlp": "float32"})

    def test_an_override_that_is_no_scheme(self):
        with pytest.raises(ValueError, match=r"override of 'head' must be one of .*; received 'int3'"):
            edge.quantize_aware(vit(), calibration_data=IMAGES, overrides={"head": "int3"})

    def test_a_scheme_without_integers(self):
        with pytest.raises(ValueError, match="'float16' makes nothing an integer: export the float model"):
            edge.quantize_aware(vit(), scheme="float16")

    def test_no_images(self):
        with pytest.raises(ValueError, match="pass calibration_data"):
            edge.quantize_aware(vit())

    def test_a_quantized_model_in_another_scheme(self, quantized_vit, tmp_path):
        with pytest.raises(ValueError, match=r"quantized with 'hybrid_int8' .* with overrides"):
            edge.export(quantized_vit, tmp_path / "model.tflite", overrides={"head": "float32"})
        trained = edge.quantize_aware(vit(), scheme="int8_weights")
        with pytest.raises(ValueError, match=r"quantized with 'int8_weights' .* as 'hybrid_int8'"):
            edge.export(trained, tmp_path / "model.tflite", "hybrid_int8", calibration_data=IMAGES)

    @pytest.mark.parametrize("settings", [{"weights": "int3"}, {"activations": "int8"}])
    def test_a_scheme_that_cannot_be(self, settings):
        with pytest.raises(ValueError, match="received"):
            edge.Scheme("mine", **settings)
