"""CaiT: costs, attention, outputs, resizing and errors."""

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.cait.class_attention import ClassAttentionBlock
from keras_vit.models.cait.talking_heads import TalkingHeadsAttention
from keras_vit.models.registry import variant
from tests.layers.test_layers import attention, four_taps, mlp, norm, part, randomized, weights
from tests.models.cait.forms import TINY
from tests.models.cases import TOKENS, randomize
from tests.models.files import check_files
from tests.models.test_reference import logits
from tests.reference import fixture, relative_error, timm_file, timm_weights

# By name and image size: parameters and, where timm's are known, multiply-accumulates.
COSTS = {
    ("cait_xxs24", 224): (11_956_264, 2_523_475_200),
    ("cait_xxs24", 384): (12_029_224, None),
    ("cait_xxs36", 224): (17_299_720, 3_755_697_408),
    ("cait_xxs36", 384): (17_372_680, None),
    ("cait_xs24", 384): (26_670_088, 19_240_642_944),
    ("cait_s24", 224): (46_916_200, 9_327_327_744),
    ("cait_s24", 384): (47_062_120, 32_110_109_184),
    ("cait_s36", 384): (68_366_632, 47_907_955_200),
    ("cait_m36", 384): (271_221_352, None),
    ("cait_m48", 448): (356_460_520, None),
}
IMAGES = np.random.default_rng(0).normal(size=(2, *TINY["input_shape"])).astype("float32")


def tiny(**settings):
    model = keras_vit.CaiT(**{**TINY, "classes": 5, "classifier_activation": None, **settings})
    randomize(model)
    return model


@pytest.mark.parametrize(("name", "size"), COSTS)
def test_costs(name, size):
    info = keras_vit.model_info(name, input_shape=(size, size, 3))
    parameters, macs = COSTS[name, size]
    assert info["parameters"] == parameters and macs in (None, info["macs"])


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("cait_*") == sorted({name for name, _ in COSTS})
    for name in keras_vit.list_models("cait_*"):
        assert (name, variant(name).image_size[0]) in COSTS


def test_talking_heads_against_their_formula():
    layer = randomized(TalkingHeadsAttention(12, 3), TOKENS)
    w = weights(layer)
    query, key, value = (
        (TOKENS @ w[f"{name}/kernel"] + w[f"{name}/bias"]).reshape(2, 5, 3, 4) for name in ("query", "key", "value")
    )
    scores = np.einsum("bnhd,bmhd->bnmh", query, key) / 2
    scores = scores @ w["mix_scores/kernel"].T + w["mix_scores/bias"]
    exponentials = np.exp(scores - scores.max(2, keepdims=True))
    probabilities = exponentials / exponentials.sum(2, keepdims=True)
    probabilities = probabilities @ w["mix_probabilities/kernel"].T + w["mix_probabilities/bias"]
    context = np.einsum("bnmh,bmhd->bnhd", probabilities, value).reshape(2, 5, 12)
    expected = context @ w["projection/kernel"] + w["projection/bias"]
    np.testing.assert_allclose(layer(TOKENS), expected, atol=1e-4)


def test_class_attention_against_its_formula():
    layer = randomized(ClassAttentionBlock(12, 3, 20, layer_scale=0.5), TOKENS)
    w = weights(layer)
    normed = norm(TOKENS) * w["norm1/gamma"] + w["norm1/beta"]
    branch = attention(normed, part(w, "attention"), 3, queries=normed[:, :1])
    token = TOKENS[:, :1] + branch * w["layer_scale1/gamma"]
    branch = mlp(norm(token) * w["norm2/gamma"] + w["norm2/beta"], part(w, "mlp"))
    token = token + branch * w["layer_scale2/gamma"]
    outputs = np.asarray(layer(TOKENS))
    np.testing.assert_allclose(outputs[:, :1], token, atol=1e-4)
    np.testing.assert_array_equal(outputs[:, 1:], TOKENS[:, 1:])


class TestTheComparisonCanFail:
    """The comparison with the reference detects each mistake that does not change the number of parameters."""

    reference = "cait_xxs24_224"
    scales = {"logits": 1.0, "logits_small": 1 / 32, "logits_large": 3.0}

    def error(self, tmp_path, output, change=None, **settings):
        arrays = timm_weights(self.reference, self.scales[output])
        if change is not None:
            change(arrays)
        save_file(arrays, tmp_path / "weights.safetensors")
        model = keras_vit.CaiT_XXS24(classifier_activation=None, **settings)
        keras_vit.load_weights(model, tmp_path / "weights.safetensors")
        return relative_error(logits(model), fixture(self.reference)[output])

    def test_another_epsilon(self, tmp_path):
        assert self.error(tmp_path, "logits_small", epsilon=1e-5) > 1e-2

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["proj_l", "proj_w"])
    def test_a_transposed_mixing_of_the_heads(self, name, tmp_path):
        def transpose(arrays):
            for i in range(24):
                kernel = f"blocks.{i}.attn.{name}.weight"
                arrays[kernel] = np.ascontiguousarray(arrays[kernel].T)

        assert self.error(tmp_path, "logits_large", transpose) > 1e-2

    def test_swapped_layer_scales(self, tmp_path):
        def swap(arrays):
            first, second = "blocks_token_only.1.gamma_1", "blocks_token_only.1.gamma_2"
            arrays[first], arrays[second] = arrays[second], arrays[first]

        assert self.error(tmp_path, "logits", swap) > 1e-2


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 13, 24)), ("token", (None, 24)), ("avg", (None, 24))])
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
    assert {name: map.shape for name, map in features.items()} == dict.fromkeys(blocks, (2, 4, 3, 24))
    maps = keras_vit.attention_maps(model, IMAGES)
    assert {name: map.shape for name, map in maps.items()} == {
        **dict.fromkeys(blocks[:2], (2, 3, 12, 12)),
        **dict.fromkeys(blocks[2:], (2, 3, 1, 13)),
    }
    assert all(np.allclose(map.sum(-1), 1, atol=1e-5) for map in maps.values())


def test_stochastic_depth_is_the_same_in_every_block_but_those_of_class_attention():
    model = tiny(drop_path_rate=0.2)
    for name, rate in (("block_0", 0.2), ("block_1", 0.2), ("class_block_0", 0), ("class_block_1", 0)):
        block = model.get_layer(name)
        assert block.drop_path1.rate == block.drop_path2.rate == rate


class TestAnotherImageSize:
    """The positions are resized by PyTorch's bicubic interpolation, as in the authors' fine-tuning."""

    def expected(self, table, old, new):
        grid = np.asarray(table).reshape(*old, -1)
        return four_taps(four_taps(grid, new[0]).swapaxes(0, 1), new[1]).swapaxes(0, 1).reshape(1, -1, grid.shape[-1])

    def test_of_a_trained_model(self):
        model = tiny()
        resized = keras_vit.resize_model(model, (24, 20, 3))
        expected = self.expected(model.get_layer("position_embedding").table, (4, 3), (6, 5))
        np.testing.assert_allclose(resized.get_layer("position_embedding").table, expected, atol=1e-5)

    def test_of_a_checkpoint(self, tmp_path):
        model = keras_vit.CaiT_XXS24(input_shape=(256, 192, 3))
        report = keras_vit.load_weights(model, timm_file("cait_xxs24_224", tmp_path))
        assert report.resized == ["position_embedding/table"]
        expected = self.expected(timm_weights("cait_xxs24_224")["pos_embed"], (14, 14), (16, 12))
        np.testing.assert_allclose(model.get_layer("position_embedding").table, expected, atol=1e-5)


class TestBadInput:
    def test_an_image_size_that_is_not_a_multiple_of_the_patch(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 16 x 16; 224 x 224 would do"):
            keras_vit.CaiT_XXS24(input_shape=(225, 224, 3))

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(ValueError, match="num_heads=5 and width=24"):
            tiny(num_heads=5)

    def test_pooling(self):
        with pytest.raises(ValueError, match="pooling must be 'token', 'avg' or None; received 'map'"):
            tiny(pooling="map")

    def test_rollout_over_class_attention(self):
        """Rollout needs the same tokens in all blocks, but the class token comes only after the last of the others."""
        with pytest.raises(ValueError, match="13 keys comes after one with 12 tokens"):
            keras_vit.attention_rollout(tiny(), IMAGES)

    def test_a_dynamic_number_of_tokens(self):
        with pytest.raises(ValueError, match="fixed number of tokens"):
            TalkingHeadsAttention(12, 3)(keras.Input((None, 12)))


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("cait_xxs24", "cait_xxs24_224", tmp_path)
