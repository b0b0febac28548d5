"""XCiT: costs, attention, outputs, positions and errors."""

import math

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.xcit.conv_patch_embedding import ConvPatchEmbedding
from keras_vit.models.xcit.cross_covariance import CrossCovarianceAttention
from keras_vit.models.xcit.fourier_positions import FourierPositions
from keras_vit.models.xcit.xcit_block import LocalPatchInteraction, XCiTClassBlock
from keras_vit.training.optimizers.factory import layer_depths
from tests.layers.test_layers import attention, gelu, mlp, norm, part, randomized, weights
from tests.models.cases import TOKENS, randomize
from tests.models.files import check_files
from tests.models.test_reference import logits
from tests.models.xcit.forms import TINY
from tests.reference import fixture, relative_error, timm_file, timm_weights

# Parameters and multiply-accumulates of timm's models, at 224 x 224 and at 384 x 384.
COSTS = {
    "xcit_nano12_p16": (3_053_224, 550_952_448, 1_618_114_048),
    "xcit_nano12_p8": (3_049_016, 2_133_603_840, 6_269_171_200),
    "xcit_tiny12_p16": (6_716_272, 1_230_138_624, 3_613_012_224),
    "xcit_tiny12_p8": (6_706_504, 4_771_008_768, 14_018_834_688),
    "xcit_tiny24_p16": (12_116_896, 2_322_068_736, 6_821_949_696),
    "xcit_tiny24_p8": (12_107_128, 9_138_729_216, 26_854_584_576),
    "xcit_small12_p16": (26_253_304, 4_795_832_832, 14_086_267_392),
    "xcit_small12_p8": (26_213_032, 18_618_819_072, 54_708_920_832),
    "xcit_small24_p16": (47_671_384, 9_060_592_128, 26_619_437_568),
    "xcit_small24_p8": (47_631_112, 35_677_856_256, 104_841_601_536),
    "xcit_medium24_p16": (84_395_752, 16_083_597_312, 47_252_887_552),
    "xcit_medium24_p8": (84_323_624, 63_345_776_640, 186_145_822_720),
    "xcit_large24_p16": (189_096_136, 35_787_002_880, 105_141_027_840),
    "xcit_large24_p8": (188_932_648, 140_957_303_808, 414_212_932_608),
}
IMAGES = np.random.default_rng(0).normal(size=(2, *TINY["input_shape"])).astype("float32")
PATCHES = np.random.default_rng(1).normal(size=(2, 6, 12)).astype("float32")


def tiny(**settings):
    model = keras_vit.XCiT(**{**TINY, "classes": 5, "classifier_activation": None, **settings})
    randomize(model)
    return model


@pytest.mark.parametrize("name", COSTS)
def test_costs(name):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == COSTS[name][:2]


@pytest.mark.parametrize("name", ["xcit_nano12_p16", "xcit_small12_p8"])
def test_costs_at_384(name):
    info = keras_vit.model_info(name, input_shape=(384, 384, 3))
    assert (info["parameters"], info["macs"]) == (COSTS[name][0], COSTS[name][2])


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("xcit_*") == sorted(COSTS)


def test_cross_covariance_attention_against_its_formula():
    layer = randomized(CrossCovarianceAttention(12, 3), TOKENS)
    w = weights(layer)
    query, key, value = (
        (TOKENS @ w[f"{name}/kernel"] + w[f"{name}/bias"]).reshape(2, 5, 3, 4) for name in ("query", "key", "value")
    )
    query, key = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
    scores = np.einsum("bnhc,bnhd->bhcd", query, key) * w["query_norm/temperature"][:, None, None]
    exponentials = np.exp(scores)
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    context = np.einsum("bhcd,bnhd->bnhc", probabilities, value).reshape(2, 5, 12)
    expected = context @ w["projection/kernel"] + w["projection/bias"]
    np.testing.assert_allclose(layer(TOKENS), expected, atol=1e-4)


def test_a_channel_of_zeros_stays_zero():
    layer = CrossCovarianceAttention(12, 3)
    layer(TOKENS)
    assert not np.any(np.asarray(layer.key_norm(np.zeros_like(TOKENS))))


def test_positions_against_their_formula():
    layer = randomized(FourierPositions((2, 3)), PATCHES)
    w = weights(layer)
    expected = np.zeros((6, 64))
    for row in range(2):
        for column in range(3):
            for axis, at in enumerate(((row + 1) / (2 + 1e-6), (column + 1) / (3 + 1e-6))):
                for i in range(32):
                    angle = 2 * math.pi * at / 10000 ** (2 * (i // 2) / 32)
                    expected[3 * row + column, 32 * axis + i] = math.cos(angle) if i % 2 else math.sin(angle)
    np.testing.assert_allclose(layer(PATCHES), PATCHES + expected @ w["kernel"] + w["bias"], atol=1e-5)


def test_local_patch_interaction_against_its_formula():
    layer = randomized(LocalPatchInteraction((2, 3), layer_scale=0.5), PATCHES)
    w = weights(layer)

    def convolution(maps, name):
        padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
        kernel = w[f"{name}/kernel"][..., 0]
        return (
            sum(padded[:, i : i + 2, j : j + 3] * kernel[i, j] for i in range(3) for j in range(3)) + w[f"{name}/bias"]
        )

    x = gelu(convolution(PATCHES.reshape(2, 2, 3, 12), "conv1"))
    x = x / math.sqrt(1 + 1e-5) * w["norm/gamma"] + w["norm/beta"]
    expected = convolution(x, "conv2") * w["layer_scale/gamma"]
    np.testing.assert_allclose(layer(PATCHES), expected.reshape(2, 6, 12), atol=1e-4)


@pytest.mark.parametrize("norm_all_tokens", [True, False])
def test_class_attention_against_the_authors_code(norm_all_tokens):
    layer = randomized(XCiTClassBlock(12, 3, 20, norm_all_tokens), TOKENS)
    w = weights(layer)
    normed = norm(TOKENS) * w["norm1/gamma"] + w["norm1/beta"]
    attended = np.concatenate([attention(normed, part(w, "attention"), 3, queries=normed[:, :1]), normed[:, 1:]], 1)
    x = TOKENS + attended * w["layer_scale1/gamma"]
    replaced = norm(x) * w["norm2/gamma"] + w["norm2/beta"]
    x = replaced if norm_all_tokens else np.concatenate([replaced[:, :1], x[:, 1:]], axis=1)
    branch = mlp(x[:, :1], part(w, "mlp")) * w["layer_scale2/gamma"]
    np.testing.assert_allclose(layer(TOKENS), x + np.concatenate([branch, x[:, 1:]], axis=1), atol=2e-4)


class TestTheComparisonCanFail:
    """The comparison with the reference detects each mistake that does not change the number of parameters."""

    reference = "xcit_nano_12_p16_224"
    scales = {"logits": 1.0, "logits_small": 1 / 32, "logits_large": 3.0}

    def error(self, tmp_path, output="logits", change=None, **settings):
        arrays = timm_weights(self.reference, self.scales[output])
        if change is not None:
            change(arrays)
        save_file(arrays, tmp_path / "weights.safetensors")
        model = keras_vit.XCiT_Nano12_P16(classifier_activation=None, **settings)
        keras_vit.load_weights(model, tmp_path / "weights.safetensors")
        return relative_error(logits(model), fixture(self.reference)[output])

    def test_another_epsilon(self, tmp_path):
        assert self.error(tmp_path, "logits_small", epsilon=1e-5) > 1e-3

    def test_all_tokens_normalized(self, tmp_path):
        assert self.error(tmp_path, norm_all_tokens=True) > 1e-2

    @pytest.mark.parametrize("names", [("norm2", "norm3"), ("gamma2", "gamma3")])
    def test_swapped_branches(self, names, tmp_path):
        def swap(arrays):
            for first in [name for name in arrays if f".{names[0]}" in name and name.startswith("blocks.")]:
                second = first.replace(*names)
                arrays[first], arrays[second] = arrays[second], arrays[first]

        assert self.error(tmp_path, change=swap) > 1e-3

    def test_temperatures_of_other_heads(self, tmp_path):
        def turn(arrays):
            for i in range(12):
                name = f"blocks.{i}.attn.temperature"
                arrays[name] = np.ascontiguousarray(arrays[name][::-1])

        assert self.error(tmp_path, "logits_large", turn) > 1e-3


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 13, 32)), ("token", (None, 32)), ("avg", (None, 32))])
def test_without_the_top(pooling, shape):
    model, tokens = tiny(include_top=False, pooling=pooling), tiny(include_top=False)
    assert model.output_shape == shape
    expected = np.asarray(tokens(IMAGES))
    expected = {None: expected, "token": expected[:, 0], "avg": expected[:, 1:].mean(1)}[pooling]
    np.testing.assert_allclose(model(IMAGES), expected, atol=1e-5)


def test_features_and_attention():
    model = tiny()
    features = keras_vit.feature_extractor(model)(IMAGES)
    blocks = ["block_0", "block_1", "class_block_0", "class_block_1"]
    assert {name: map.shape for name, map in features.items()} == dict.fromkeys(blocks, (2, 4, 3, 32))
    # The attention of the other blocks is between channels.
    maps = keras_vit.attention_maps(model, IMAGES)
    assert {name: map.shape for name, map in maps.items()} == dict.fromkeys(blocks[2:], (2, 2, 1, 13))
    assert all(np.allclose(map.sum(-1), 1, atol=1e-5) for map in maps.values())


def test_another_image_size():
    """Only the positions depend on the image size, and they are computed for the new one."""
    model = tiny()
    resized, fresh = keras_vit.resize_model(model, (24, 20, 3)), tiny(input_shape=(24, 20, 3))
    images = np.random.default_rng(0).normal(size=(2, 24, 20, 3)).astype("float32")
    np.testing.assert_allclose(resized(images), fresh(images), atol=1e-5)


def test_a_checkpoint_at_another_image_size(tmp_path):
    model = keras_vit.XCiT_Nano12_P16(input_shape=(256, 192, 3))
    report = keras_vit.load_weights(model, timm_file("xcit_nano_12_p16_224", tmp_path))
    assert not report.resized and not report.unused and not report.adapted


def test_fused_positions_are_one_table():
    model, fused = tiny(), keras_vit.fuse(tiny())
    table = fused.get_layer("position_embedding").table
    zeros = np.zeros((1, 12, 32), "float32")
    np.testing.assert_allclose(table, model.get_layer("position_embedding")(zeros), atol=1e-6)


def test_stochastic_depth_is_the_same_in_every_block():
    model = tiny(drop_path_rate=0.2)
    assert {getattr(model.get_layer(f"block_{i}"), f"drop_path{j}").rate for i in (0, 1) for j in (1, 2, 3)} == {0.2}


def test_depths_of_layers_begin_with_the_first_block():
    model = tiny()
    depths = dict(zip([v.path for v in model.trainable_variables], layer_depths(model), strict=True))
    assert {depth for path, depth in depths.items() if path.startswith(("patch_embedding", "position"))} == {0}
    for name, expected in (("block_0", 1), ("block_1", 2), ("class_block_0", 3), ("class_block_1", 4), ("head", 5)):
        assert {depth for path, depth in depths.items() if path.startswith(f"{name}/")} == {expected}


class TestBadInput:
    def test_an_image_size_that_is_not_a_multiple_of_the_patch(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 16 x 16; 224 x 224 would do"):
            keras_vit.XCiT_Nano12_P16(input_shape=(225, 224, 3))

    @pytest.mark.parametrize("patch_size", [12, 1])
    def test_a_patch_that_convolutions_cannot_halve_to_a_token(self, patch_size):
        with pytest.raises(
            ValueError, match=rf"side of 2, 4, 8, 16.*received patch_size=\({patch_size}, {patch_size}\)"
        ):
            tiny(patch_size=patch_size)

    def test_a_patch_that_is_not_square(self):
        with pytest.raises(ValueError, match=r"received patch_size=\(4, 8\)"):
            ConvPatchEmbedding(8, (4, 8))

    def test_a_width_that_cannot_be_halved(self):
        with pytest.raises(ValueError, match=r"multiple of 8 for 4 convolutions.*received 20"):
            tiny(width=20, patch_size=16, input_shape=(16, 16, 3))

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(ValueError, match="num_heads=5 and width=32"):
            tiny(num_heads=5)

    def test_pooling(self):
        with pytest.raises(ValueError, match="pooling must be 'token', 'avg' or None; received 'max'"):
            tiny(pooling="max")

    def test_positions_for_another_number_of_tokens(self):
        with pytest.raises(ValueError, match=r"2 x 3 patches expects \(batch, 6, width\)"):
            FourierPositions((2, 3))(keras.Input((7, 12)))


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("xcit_nano12_p16", "xcit_nano_12_p16_224", tmp_path)
