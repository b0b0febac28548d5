"""CoAtNet: costs, attention, outputs, resizing and errors."""

from dataclasses import asdict

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.layers.window_bias import RelativePositionBias
from keras_vit.models.coatnet.coatnet_block import PreNormMBConv, RelativeTransformerBlock
from keras_vit.models.coatnet.relative_attention import RelativeSelfAttention
from tests.layers.test_layers import gelu, mlp, norm, part, randomized, weights
from tests.models.cases import randomize
from tests.models.coatnet.forms import MAP, TINY
from tests.models.files import check_files
from tests.models.test_reference import logits
from tests.reference import fixture, relative_error, timm_file, timm_weights

# Parameters and multiply-accumulates at 224 x 224 of timm's models.
COSTS = {
    "coatnet_0": (25_036_820, 4_546_507_776),
    "coatnet_1": (42_225_776, 8_643_499_008),
    "coatnet_2": (74_684_744, 16_427_134_976),
    "coatnet_3": (166_966_264, 36_453_156_864),
    "coatnet_4": (275_425_288, 62_316_840_960),
    "coatnet_5": (687_472_008, 145_264_287_744),
}
IMAGES = np.random.default_rng(0).normal(size=(2, *TINY["input_shape"])).astype("float32")
MAPS = np.random.default_rng(1).normal(size=(2, 4, 6, 5)).astype("float32")


def tiny(**settings):
    model = keras_vit.CoAtNet(**{**TINY, "classes": 5, "classifier_activation": None, **settings})
    randomize(model)
    return model


def pooled(maps):
    """The mean of each 2 x 2 pixels."""
    return maps.reshape(len(maps), maps.shape[1] // 2, 2, maps.shape[2] // 2, 2, -1).mean((2, 4))


@pytest.mark.parametrize(("name", "costs"), COSTS.items())
def test_costs(name, costs):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == costs


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("coatnet_*") == sorted(COSTS)


def relative_attention(x, w, heads, size):
    """Attention by its formula, one pair of pixels after the other."""
    height, width = size
    query, key, value = (
        (x @ w[f"{name}/kernel"] + w[f"{name}/bias"]).reshape(*x.shape[:2], heads, -1)
        for name in ("query", "key", "value")
    )
    scores = np.einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(query.shape[-1])
    table = w["bias/table"].reshape(2 * height - 1, 2 * width - 1, heads)
    for n in range(height * width):
        for m in range(height * width):
            down, right = n // width - m // width, n % width - m % width
            scores[:, :, n, m] += table[down + height - 1, right + width - 1]
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    context = np.einsum("bhnm,bmhd->bnhd", probabilities, value).reshape(*x.shape[:2], -1)
    return context @ w["projection/kernel"] + w["projection/bias"]


def test_relative_attention_against_its_formula():
    pixels = MAPS[:, :2, :3].reshape(2, 6, 5)
    layer = randomized(RelativeSelfAttention(12, 3, (2, 3)), pixels)
    np.testing.assert_allclose(layer(pixels), relative_attention(pixels, weights(layer), 3, (2, 3)), atol=1e-4)


@pytest.mark.parametrize("strides", [1, 2])
def test_the_transformer_block_against_its_formula(strides):
    settings = {"size": (4, 6), "channels": 12, "input_channels": 5, "num_heads": 3, "mlp_dim": 20}
    layer = randomized(RelativeTransformerBlock(**settings, strides=strides), MAPS)
    w = weights(layer)
    normed, shortcut = norm(MAPS) * w["norm1/gamma"] + w["norm1/beta"], MAPS
    if strides == 2:
        normed, shortcut = pooled(normed), pooled(shortcut)
    size = normed.shape[1:3]
    shortcut = shortcut @ w["shortcut/project/kernel"][0, 0] + w["shortcut/project/bias"]
    x = shortcut.reshape(2, -1, 12) + relative_attention(normed.reshape(2, -1, 5), part(w, "attention"), 3, size)
    x = x + mlp(norm(x) * w["norm2/gamma"] + w["norm2/beta"], part(w, "mlp"))
    np.testing.assert_allclose(layer(MAPS), x.reshape(2, *size, 12), atol=2e-4)


def test_the_convolutional_block_against_its_formula():
    layer = randomized(PreNormMBConv(8, 5, strides=2, expansion=2), MAPS)
    w = weights(layer)

    def batch_norm(x, name):
        return x / np.sqrt(1 + 1e-5) * w[f"{name}/gamma"] + w[f"{name}/beta"]

    x = batch_norm(MAPS, "pre_norm") @ w["expand/conv/kernel"][0, 0]
    padded = np.pad(gelu(batch_norm(x, "expand/norm")), ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = w["depthwise/conv/kernel"][..., 0]
    x = sum(padded[:, i : i + 4 : 2, j : j + 6 : 2] * kernel[i, j] for i in range(3) for j in range(3))
    x = gelu(batch_norm(x, "depthwise/norm"))
    reduced = x.mean((1, 2)) @ w["squeeze_excite/reduce/kernel"][0, 0] + w["squeeze_excite/reduce/bias"]
    gate = reduced / (1 + np.exp(-reduced)) @ w["squeeze_excite/expand/kernel"][0, 0] + w["squeeze_excite/expand/bias"]
    x = x / (1 + np.exp(-gate))[:, None, None]
    shortcut = pooled(MAPS) @ w["shortcut/project/kernel"][0, 0] + w["shortcut/project/bias"]
    expected = shortcut + x @ w["project/conv/kernel"][0, 0] + w["project/conv/bias"]
    np.testing.assert_allclose(layer(MAPS), expected, atol=1e-4)


class TestTheComparisonCanFail:
    """The comparison with the reference detects each mistake that does not change the number of parameters."""

    reference = "coatnet_0_224"
    scales = {"logits": 1.0, "logits_small": 1 / 32, "logits_large": 3.0}

    def error(self, tmp_path, output="logits", change=None, **settings):
        arrays = timm_weights(self.reference, self.scales[output])
        if change is not None:
            change(arrays)
        save_file(arrays, tmp_path / "weights.safetensors")
        model = keras_vit.CoAtNet_0(classifier_activation=None, **settings)
        keras_vit.load_weights(model, tmp_path / "weights.safetensors")
        return relative_error(logits(model), fixture(self.reference)[output])

    @pytest.mark.parametrize("name", ["epsilon", "batch_norm_epsilon"])
    def test_another_epsilon(self, name, tmp_path):
        assert self.error(tmp_path, "logits_small", **{name: 1e-4}) > 1e-4

    @pytest.mark.slow
    def test_the_other_gelu(self, tmp_path):
        assert self.error(tmp_path, activation="gelu_tanh") > 1e-4

    def test_a_mirrored_bias(self, tmp_path):
        def mirror(arrays):
            for name in [name for name in arrays if name.endswith("relative_position_bias_table")]:
                arrays[name] = np.ascontiguousarray(arrays[name][::-1])

        assert self.error(tmp_path, "logits_large", mirror) > 1e-3

    @pytest.mark.slow
    def test_queries_before_keys_of_all_heads(self, tmp_path):
        def reorder(arrays):
            for name in [name for name in arrays if ".attn.qkv." in name]:
                array = arrays[name].reshape(-1, 3, 32, *arrays[name].shape[1:])
                arrays[name] = np.ascontiguousarray(array.swapaxes(0, 1)).reshape(arrays[name].shape)

        assert self.error(tmp_path, change=reorder) > 1e-2


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 3, 2, 24)), ("avg", (None, 24))])
def test_without_the_top(pooling, shape):
    model, maps = tiny(include_top=False, pooling=pooling), tiny(include_top=False)
    assert model.output_shape == shape
    expected = np.asarray(maps(IMAGES))
    if pooling:
        gamma, beta = model.get_layer("norm").get_weights()
        expected = norm(expected.mean((1, 2))) * gamma + beta
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-4)


def test_without_a_hidden_layer():
    features, model = tiny(include_top=False, pooling="avg"), tiny(representation_size=None)
    kernel, bias = model.get_layer("head").get_weights()
    model.set_weights([*features.get_weights(), kernel, bias])
    np.testing.assert_allclose(model(IMAGES), np.asarray(features(IMAGES)) @ kernel + bias, atol=1e-4)


def test_weights_with_a_head_fit_a_model_without_one(tmp_path):
    model = keras_vit.CoAtNet_0(include_top=False)
    report = keras_vit.load_weights(model, timm_file("coatnet_0_224", tmp_path))
    assert set(report.unused) == {name for name in timm_weights("coatnet_0_224") if name.startswith("head.")}


def test_the_pyramid_and_attention():
    model = tiny()
    pyramid = keras_vit.feature_extractor(model, "pyramid")(IMAGES)
    sizes = {2: 8, 4: 8, 8: 12, 16: 16, 32: 24}
    assert {name: map.shape for name, map in pyramid.items()} == {
        f"stride_{stride}": (2, 96 // stride, 64 // stride, channels) for stride, channels in sizes.items()
    }
    maps = keras_vit.attention_maps(model, IMAGES)
    assert {name: map.shape for name, map in maps.items()} == {
        "stage_3_block_0": (2, 2, 24, 24),
        "stage_3_block_1": (2, 2, 24, 24),
        "stage_4_block_0": (2, 3, 6, 6),
    }


def test_the_fused_bias_is_one_constant():
    model = tiny()
    fused = keras_vit.fuse(model)
    attention = model.get_layer("stage_4_block_0").attention
    scores = np.zeros((1, 3, 6, 6), "float32")
    constant = np.reshape(fused.get_layer("stage_4_block_0.attention.bias").bias, (3, 6, 6))
    np.testing.assert_allclose(constant, attention.bias(scores)[0])


def test_stochastic_depth_rises_linearly_from_zero():
    model = tiny(drop_path_rate=0.5)
    rates = {
        layer.name: getattr(layer, "drop_path", getattr(layer, "drop_path1", None)).rate
        for layer in model.layers
        if layer.name.startswith("stage_")
    }
    np.testing.assert_allclose(list(rates.values()), np.linspace(0, 0.5, 6))


def bilinear(values, new):
    """Interpolation along the first axis as TensorFlow resizes images: half-pixel centers, no antialiasing."""
    old, resized = len(values), []
    for index in range(new):
        at = min(max((index + 0.5) * old / new - 0.5, 0), old - 1)
        low = min(int(at), old - 2)
        resized.append(values[low] * (low + 1 - at) + values[low + 1] * (at - low))
    return np.stack(resized)


class TestAnotherImageSize:
    """The tables of relative positions are resized by bilinear interpolation, as in the paper (appendix A.2)."""

    def expected(self, table, old, new):
        old, new = ([2 * side - 1 for side in size] for size in (old, new))
        grid = np.asarray(table).reshape(*old, -1)
        return bilinear(bilinear(grid, new[0]).swapaxes(0, 1), new[1]).swapaxes(0, 1).reshape(-1, grid.shape[-1])

    def test_of_a_trained_model(self):
        model = tiny()
        resized = keras_vit.resize_model(model, (64, 128, 3))
        assert resized.output_shape == (None, 5)
        before, after = (each.get_layer("stage_3_block_1").attention.bias.table for each in (model, resized))
        np.testing.assert_allclose(after, self.expected(before, (6, 4), (4, 8)), atol=1e-5)

    def test_of_a_checkpoint(self, tmp_path):
        model = keras_vit.CoAtNet_0(input_shape=(256, 192, 3))
        report = keras_vit.load_weights(model, timm_file("coatnet_0_224", tmp_path))
        assert len(report.resized) == 7 and not report.unused
        table = timm_weights("coatnet_0_224")["stages.2.blocks.4.attn.rel_pos.relative_position_bias_table"]
        resized = model.get_layer("stage_3_block_4").attention.bias.table
        np.testing.assert_allclose(resized, self.expected(table, (14, 14), (16, 12)), atol=1e-5)


class TestBadInput:
    def test_an_image_size_that_cannot_be_halved(self):
        with pytest.raises(ValueError, match=r"multiples of 32; received 225 x 240, and 224 x 224 would do"):
            keras_vit.CoAtNet_0(input_shape=(225, 240, 3))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"channels": (8, 12, 16)}, r"four stages; received channels=\(8, 12, 16\)"),
            ({"head_dim": 7}, r"head_dim=7 and channels=\(8, 12, 16, 24\)"),
            ({"include_top": False, "pooling": "max"}, "pooling must be 'avg' or None; received 'max'"),
        ],
    )
    def test_errors_name_the_argument(self, settings, message):
        with pytest.raises(ValueError, match=message):
            tiny(**settings)

    def test_a_bias_for_another_map(self):
        with pytest.raises(ValueError, match=r"1 windows of 6 pixels expects \(batch, 3, 6, 6\); .*None, 3, 5, 5"):
            RelativePositionBias(3, asdict(MAP))(keras.Input((3, 5, 5)))

    def test_a_table_that_is_not_of_a_square_map(self):
        layer = RelativePositionBias(3, asdict(MAP))
        layer(np.zeros((1, 3, 6, 6), "float32"))
        with pytest.raises(ValueError, match="has 15 rows, which is not the number of a square window"):
            layer.resized(np.zeros((15, 3)))


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("coatnet_0", "coatnet_0_224", tmp_path)
