"""MobileViT and MobileViTv2: costs, outputs, fusing, weights and export."""

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge
from tests.reference import fixture, images, relative_error, timm_weights

# Trainable parameters; multiply-accumulates at 256 x 256 and, if known, at 224 x 224 in millions.
COSTS = {
    "mobilevit_xxs": (1_272_024, 407_364_096, 301.5),
    "mobilevit_xs": (2_317_848, 1_025_911_808, 772.3),
    "mobilevit_s": (5_578_632, 2_000_831_488, 1521.5),
    "mobilevitv2_050": (1_370_593, 464_594_944, 361.9),
    "mobilevitv2_075": (2_866_009, 1_027_980_288, None),
    "mobilevitv2_100": (4_901_841, 1_812_090_880, 1412),
    "mobilevitv2_125": (7_478_089, 2_816_926_720, None),
    "mobilevitv2_150": (10_594_753, 4_042_487_808, None),
    "mobilevitv2_175": (14_251_833, 5_488_774_144, None),
    "mobilevitv2_200": (18_449_329, 7_155_785_728, 5577),
}
# The maps of the last three stages are 12 x 9, 6 x 5 and 3 x 3, with odd sides.
TINY = dict(
    input_shape=(96, 72, 3), stem_channels=8, channels=(8, 12, 16, 20, 24), widths=(8, 12, 16), depths=(1, 1, 1)
)
TINY_V1 = dict(**TINY, head_channels=32, num_heads=2, expansion=2)
IMAGES = np.random.default_rng(0).random((3, 96, 72, 3), "float32")
both = pytest.mark.parametrize("version", [1, 2])


def tiny(version, **settings):
    """Build a small model with random weights and running statistics."""
    if version == 1:
        model = keras_vit.MobileViT(**{**TINY_V1, "classes": 5, **settings})
    else:
        model = keras_vit.MobileViTV2(**{**TINY, "classes": 5, **settings})
    randomize(model)
    return model


def randomize(model):
    random = np.random.default_rng(1)
    for variable in model.weights:
        if "seed" in variable.name:
            continue
        if len(variable.shape) > 1:
            fan_in = np.prod(variable.shape[:-1] if variable.name != "depthwise_kernel" else variable.shape[:2])
            variable.assign(random.normal(size=variable.shape) / np.sqrt(fan_in))
        elif variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.7, 1.3, variable.shape))
        else:
            variable.assign(0.1 * random.normal(size=variable.shape))


@pytest.mark.parametrize(("name", "costs"), COSTS.items())
def test_costs(name, costs):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == costs[:2]
    assert info["image_size"] == (256, 256)


@pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s", "mobilevitv2_050", "mobilevitv2_200"])
def test_costs_at_224(name):
    info = keras_vit.model_info(name, input_shape=(224, 224, 3))
    assert info["macs"] / 1e6 == pytest.approx(COSTS[name][2], rel=0.01)


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("mobilevit*") == sorted(COSTS)


@both
@pytest.mark.parametrize("pooling", [None, "avg", "max"])
def test_without_the_top(version, pooling):
    channels = 32 if version == 1 else 24
    model = tiny(version, include_top=False, pooling=pooling)
    side = 3 if version == 1 else 4
    assert model.output_shape == ((None, side, side, channels) if pooling is None else (None, channels))
    maps = np.asarray(tiny(version, include_top=False)(IMAGES))
    expected = {None: maps, "avg": maps.mean((1, 2)), "max": maps.max((1, 2))}[pooling]
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("version", "sizes"),
    [(1, [(48, 36), (24, 18), (12, 9), (6, 5), (3, 3)]), (2, [(48, 36), (24, 18), (12, 10), (6, 6), (4, 4)])],
)
def test_stages_have_their_strides(version, sizes):
    model = tiny(version)
    last = {}  # The output of the last block of each stage.
    for layer in model.layers:
        if match := re.fullmatch(r"stage_(\d)_block_\d", layer.name):
            last[match[1]] = layer.output.shape[1:]
    expected = [(*size, channels) for size, channels in zip(sizes, TINY["channels"], strict=True)]
    assert last == dict(zip("12345", expected, strict=True))


@both
def test_stochastic_depth_rises_linearly_from_zero(version):
    model = tiny(version, drop_path_rate=0.3)
    blocks = [layer for layer in model.layers if layer.name.startswith("stage_")]
    expected = dict(zip([block.name for block in blocks], np.linspace(0, 0.3, len(blocks)), strict=True))
    for block in blocks:
        for name, layer in block.parts().items():
            if name == "drop_path":
                assert layer.rate == pytest.approx(expected[block.name])
            elif name.startswith("transformer_"):
                assert layer.drop_path1.rate == layer.drop_path2.rate == pytest.approx(expected[block.name])
    assert model.get_layer("stage_5_block_1").transformer_0.drop_path2.rate == pytest.approx(0.3)
    assert not np.allclose(model(IMAGES, training=True), model(IMAGES, training=True))
    np.testing.assert_array_equal(model(IMAGES), model(IMAGES))


@both
def test_dropout_reaches_the_attention_the_mlp_and_the_head(version):
    model = tiny(version, dropout_rate=0.2, attention_dropout_rate=0.1)
    block = model.get_layer("stage_4_block_1").transformer_0
    rates = [block.attention.dropout.rate, block.mlp.dropout.rate, model.get_layer("dropout").rate]
    assert rates == [0.2] * 3 and block.attention.attention_dropout.rate == 0.1


@both
def test_fusing(version):
    model = tiny(version, drop_path_rate=0.1, dropout_rate=0.1, classifier_activation=None)
    folded = keras_vit.fuse(model)
    assert relative_error(np.asarray(folded(IMAGES)), np.asarray(model(IMAGES))) < 1e-5
    kinds = {type(layer).__name__ for layer in folded.layers}
    assert not kinds & {"BatchNormalization", "Scale", "Dropout", "DropPath"}
    inner = [layer for layer in folded.layers if re.search(r"transformer_\d\.norm", layer.name)]
    assert len(inner) == 6 and not any(layer.affine for layer in inner)
    assert not any(getattr(layer, "subtract_mean", False) for layer in inner)


HUGGING_FACE = {
    "mobilevit_xxs": [
        (r"^stem\.", "mobilevit.conv_stem."),
        (r"^final_conv\.", "mobilevit.conv_1x1_exp."),
        (r"attn\.proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        (r"conv_fusion", "fusion"),
        (r"^stages\.", "mobilevit.encoder.layer."),
    ],
    "mobilevitv2_050": [
        (r"^stem\.", "mobilevitv2.conv_stem."),
        (r"attn\.(\w+_proj)", r"attention.\1.convolution"),
        (r"mlp\.fc(\d)", r"ffn.conv\1.convolution"),
        (r"^stages\.", "mobilevitv2.encoder.layer."),
    ],
}
HUGGING_FACE_BOTH = [
    (r"^stages\.([01])\.(\d)", r"stages.\1.layer.\2"),
    (r"^stages\.([234])\.0", r"stages.\1.downsampling_layer"),
    (r"^stages\.([234])\.1", r"stages.\1"),
    (r"conv1_1x1", "expand_1x1"),
    (r"conv2_kxk", "conv_3x3"),
    (r"conv3_1x1", "reduce_1x1"),
    (r"conv_proj", "conv_projection"),
    (r"\.conv\.", ".convolution."),
    (r"\.bn\.", ".normalization."),
    (r"(stages\.\d\.conv_1x1)", r"\1.convolution"),
    (r"transformer\.(\d)", r"transformer.layer.\1"),
    (r"norm1", "layernorm_before"),
    (r"norm2", "layernorm_after"),
    (r"\.norm\.", ".layernorm."),
    (r"head\.fc", "classifier"),
]


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face_names_load_the_same_model(name, tmp_path):
    converted = {}
    for key, array in timm_weights(name).items():
        for pattern, replacement in HUGGING_FACE_BOTH + HUGGING_FACE[name]:
            key = re.sub(pattern, replacement, key)
        if ".attn.qkv." in key:
            for kind, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                converted[key.replace("attn.qkv", f"attention.attention.{kind}")] = rows
        else:
            converted[key] = array
    save_file(converted, tmp_path / "model.safetensors")
    model = keras_vit.create_model(name, classifier_activation=None)
    report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
    assert report.project == "Hugging Face" and not report.unused
    assert relative_error(np.asarray(model(images(256)[:1])), fixture(name)["logits"][:1]) < 1e-4


class TestFiles:
    """Exported files are one partition, use only tensors that every device takes, and give the model's outputs."""

    def check(self, model, folder):
        size = model.input_shape[1:]
        file = edge.export(model, folder / "model.tflite")
        audit = edge.audit(file)
        assert audit.partitions == 1 and audit.findings == []
        images = np.random.default_rng(0).random((3, *size), "float32")
        assert edge.verify(model, file, images).max_relative_error < 1e-5

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["mobilevit_xxs", "mobilevitv2_050"])
    def test_smallest(self, name, tmp_path):
        model = keras_vit.create_model(name, classifier_activation=None)
        randomize(model)
        self.check(model, tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["mobilevit_s", "mobilevitv2_100"])
    def test_larger(self, name, tmp_path):
        self.test_smallest(name, tmp_path)


class TestBadInput:
    @both
    def test_too_few_sizes(self, version):
        with pytest.raises(ValueError, match=r"each of the five stages.*depths=\(2, 4\)"):
            tiny(version, depths=(2, 4))

    def test_weights_of_the_other_version(self, tmp_path):
        save_file(timm_weights("mobilevitv2_050"), tmp_path / "v2.safetensors")
        with pytest.raises(ValueError, match="holds weights of another model"):
            keras_vit.MobileViT_XXS(weights=tmp_path / "v2.safetensors")
