"""ConvNeXt: costs, outputs, weights, fusing and export."""

import math
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge
from keras_vit.graph.flattening import leaves
from keras_vit.layers import DropPath, LayerNorm
from keras_vit.models.convnext.convnext_block import ConvNeXtBlock
from keras_vit.models.convnext.weights import TIMM
from tests.models.cases import build, randomize
from tests.models.convnext.forms import TINY
from tests.reference import fixture, images, relative_error, timm_file, timm_weights

# Trainable parameters and multiply-accumulates at 224 x 224.
COSTS = {
    "convnext_atto": (3_695_520, 547_332_480),
    "convnext_femto": (5_217_784, 779_629_824),
    "convnext_pico": (9_045_672, 1_367_055_360),
    "convnext_nano": (15_593_560, 2_445_528_320),
    "convnext_t": (28_589_128, 4_455_531_264),
    "convnext_s": (50_223_688, 8_683_712_256),
    "convnext_b": (88_591_464, 15_354_729_472),
    "convnext_l": (197_767_336, 34_361_433_600),
    "convnext_xl": (350_196_968, 60_921_030_656),
}
IMAGES = np.random.default_rng(0).random((3, 48, 36, 3), "float32")


def tiny(**settings):
    return build("convnext: three stages", **settings)


@pytest.mark.parametrize(("name", "costs"), COSTS.items())
def test_costs(name, costs):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == costs


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("convnext_*") == sorted(COSTS)


def test_a_changed_detail_does_not_pass_the_comparison(tmp_path):
    """The epsilons, the order of the stages' parts and the scales count in the comparison with the reference."""
    model = keras_vit.ConvNeXt_T(classifier_activation=None)
    keras_vit.load_weights(model, timm_file("convnext_tiny", tmp_path, 1 / 32))
    expected = fixture("convnext_tiny")

    def error(outputs="logits_small"):
        return relative_error(np.asarray(model(images(224)[:1], training=False)), expected[outputs][:1])

    norms = [layer for _, layer in leaves(model) if isinstance(layer, LayerNorm)]
    assert len(norms) == 1 + 3 + 18 + 1 and error() < 1e-4
    for norm in norms:
        norm.epsilon *= 10
    assert error() > 1e-3
    for norm in norms:
        norm.epsilon /= 10
    keras_vit.load_weights(model, timm_file("convnext_tiny", tmp_path))
    assert error("logits") < 1e-4
    block = model.get_layer("stage_3_block_2")
    block.layer_scale.gamma.assign(np.ones(768))
    assert error("logits") > 1e-3


def depthwise(x, kernel, bias):
    """Compute a depthwise convolution pixel by pixel, with zeros around the map."""
    side = kernel.shape[0]
    around = np.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    outputs = np.zeros_like(x)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            outputs[:, row, column] = np.sum(around[:, row : row + side, column : column + side] * kernel, axis=(1, 2))
    return outputs + bias


def test_block_computes_the_formula():
    random = np.random.default_rng(2)
    x = random.normal(size=(2, 8, 5, 6)).astype("float32")
    layer = ConvNeXtBlock(6, mlp_ratio=2)
    layer.build(x.shape)
    for variable in layer.weights:
        variable.assign(random.normal(size=variable.shape))
    w = {f"{v.path.split('/')[-2]}/{v.name}": np.array(v, "float64") for v in layer.weights}
    y = depthwise(x.astype("float64"), w["depthwise/kernel"][..., 0], w["depthwise/bias"])
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    y = (y * w["norm/gamma"] + w["norm/beta"]) @ w["expand/kernel"] + w["expand/bias"]
    y = y * 0.5 * (1 + np.vectorize(math.erf)(y / 2**0.5))
    expected = x + w["layer_scale/gamma"] * (y @ w["contract/kernel"] + w["contract/bias"])
    assert relative_error(np.asarray(layer(x)), expected) < 1e-5


def test_maps_of_every_stride_and_pooling():
    model = tiny(include_top=False, pooling="avg")
    maps = keras_vit.feature_extractor(model, "pyramid")(IMAGES)
    assert {name: array.shape for name, array in maps.items()} == {
        "stride_4": (3, 12, 9, 8),
        "stride_8": (3, 6, 4, 12),
        "stride_16": (3, 3, 2, 16),
    }
    mean = np.asarray(maps["stride_16"], "float64").mean(axis=(1, 2))
    norm = model.get_layer("norm")
    expected = (mean - mean.mean(-1, keepdims=True)) / np.sqrt(mean.var(-1, keepdims=True) + 1e-6)
    expected = expected * np.array(norm.gamma) + np.array(norm.beta)
    assert relative_error(np.asarray(model(IMAGES)), expected) < 1e-5
    assert tiny(include_top=False).output_shape == (None, 3, 2, 16)


def test_stochastic_depth_rises_linearly_from_zero():
    model = tiny(drop_path_rate=0.3)
    rates = [layer.rate for _, layer in leaves(model) if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 4))
    assert not np.allclose(model(IMAGES, training=True), model(IMAGES, training=True))


@pytest.mark.parametrize("layer_scale", [1e-6, None])
def test_fusing_moves_norms_and_scales_into_the_dense_layers(layer_scale):
    model = tiny(layer_scale=layer_scale)
    fused = keras_vit.fuse(model)
    assert relative_error(np.asarray(fused(IMAGES)), np.asarray(model(IMAGES))) < 1e-5
    kinds = {type(layer).__name__ for layer in fused.layers}
    assert not kinds & {"LayerScale", "Affine", "DropPath"}
    assert not any(layer.affine for layer in fused.layers if isinstance(layer, LayerNorm) and "block" in layer.name)


def test_a_trained_model_takes_images_of_another_size():
    model = tiny(include_top=False)
    larger = keras_vit.resize_model(model, (64, 80, 3))
    image = np.random.default_rng(1).random((1, 64, 80, 3), "float32")
    expected = keras_vit.ConvNeXt(**{**TINY, "input_shape": (64, 80, 3)}, include_top=False)
    expected.set_weights(model.get_weights())
    np.testing.assert_array_equal(larger(image), expected(image))


NAMES = {
    "ConvNeXt's authors": [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample", r"downsample_layers.\1"),
        (r"\.blocks\.", "."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"),
        (r"^head\.fc", "head"),
    ],
    "Hugging Face": [
        (r"^stem\.0", "convnext.embeddings.patch_embeddings"),
        (r"^stem\.1", "convnext.embeddings.layernorm"),
        (r"^stages\.(\d)\.downsample", r"convnext.encoder.stages.\1.downsampling_layer"),
        (r"^stages\.(\d)\.blocks", r"convnext.encoder.stages.\1.layers"),
        ("conv_dw", "dwconv"),
        (r"(layers\.\d+)\.norm", r"\1.layernorm"),
        (r"mlp\.fc", "pwconv"),
        ("gamma", "layer_scale_parameter"),
        (r"^head\.norm", "convnext.layernorm"),
        (r"^head\.fc", "classifier"),
    ],
}


@pytest.mark.parametrize("project", NAMES)
def test_other_published_names_load_the_same_model(project, tmp_path):
    converted = {}
    for name, array in timm_weights("convnext_tiny").items():
        for pattern, replacement in NAMES[project]:
            name = re.sub(pattern, replacement, name)
        converted[name] = array
    save_file(converted, tmp_path / "model.safetensors")
    model = keras_vit.ConvNeXt_T(classifier_activation=None)
    report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
    assert report.project == project and not report.unused
    assert relative_error(np.asarray(model(images(224)[:1])), fixture("convnext_tiny")["logits"][:1]) < 1e-4


def test_small_sizes_of_timm_store_dense_layers_as_convolutions(tmp_path):
    model = tiny()
    saved = {}
    for leaf, layer in leaves(model):
        for variable in layer.weights:
            array = np.array(variable)
            if array.ndim == 4:
                array = array.transpose((2, 3, 0, 1) if "depthwise" in leaf else (3, 2, 0, 1))
            elif array.ndim == 2:
                array = array.T[:, :, None, None] if "mlp" in leaf else array.T
            saved[TIMM.place(leaf, variable.name)] = np.ascontiguousarray(array)
    save_file(saved, tmp_path / "model.safetensors")
    other = keras_vit.ConvNeXt(**TINY, classes=5, classifier_activation=None)
    assert not keras_vit.load_weights(other, tmp_path / "model.safetensors").unused
    np.testing.assert_array_equal(other(IMAGES), model(IMAGES))


@pytest.mark.slow
def test_files_of_the_published_size(tmp_path):
    model = keras_vit.ConvNeXt_T(classifier_activation=None)
    randomize(model)
    pictures = np.random.default_rng(0).normal(size=(8, 224, 224, 3)).astype("float32")
    float32 = edge.export(model, tmp_path / "float32.tflite")
    quantized = edge.quantize_aware(model, calibration_data=pictures)
    hybrid = edge.export(quantized, tmp_path / "hybrid.tflite")
    for file in (float32, hybrid):
        audit = edge.audit(file)
        assert audit.partitions <= 2 and audit.findings == []
    assert edge.verify(model, float32, pictures[:2]).max_relative_error < 1e-4
    assert edge.verify(quantized, hybrid, pictures[:2]).snr_db > 28


class TestBadInput:
    def test_stages_without_depths(self):
        with pytest.raises(ValueError, match=r"a number for each stage.*depths=\(1, 2\)"):
            keras_vit.ConvNeXt(**{**TINY, "depths": (1, 2)})

    def test_an_even_kernel(self):
        with pytest.raises(ValueError, match="kernel_size must be a positive odd number; received 6"):
            keras_vit.ConvNeXt(**TINY, kernel_size=6)

    def test_too_small_images(self):
        with pytest.raises(ValueError, match="images of 32 x 32 pixels or more; received 31 x 64"):
            keras_vit.ConvNeXt_T(input_shape=(31, 64, 3))

    def test_a_pooling_that_the_family_has_not(self):
        with pytest.raises(ValueError, match="pooling must be 'avg' or None; received 'max'"):
            keras_vit.ConvNeXt_T(include_top=False, pooling="max")

    def test_weights_of_another_size(self, tmp_path):
        save_file(timm_weights("convnext_tiny"), tmp_path / "tiny.safetensors")
        with pytest.raises(ValueError, match="holds weights of another model"):
            keras_vit.ConvNeXt_Nano(weights=tmp_path / "tiny.safetensors")
