"""MLP-Mixer: costs, outputs, published names and errors."""

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.mlp_mixer.mixer_block import MixerBlock
from tests.layers.test_layers import mlp, norm, part, randomized, weights
from tests.models.files import check_files
from tests.models.mlp_mixer.forms import TINY
from tests.models.test_reference import logits
from tests.reference import fixture, relative_error, timm_file, timm_weights

# Parameters and multiply-accumulates at 224 x 224 of timm's models.
COSTS = {
    "mixer_s32": (19_104_624, 1_002_426_368),
    "mixer_s16": (18_528_264, 3_776_958_464),
    "mixer_b32": (60_293_428, 3_237_722_112),
    "mixer_b16": (59_880_472, 12_601_767_936),
    "mixer_l32": (206_939_264, 11_253_293_056),
    "mixer_l16": (208_196_168, 44_547_678_208),
}


def tiny(**settings):
    return keras_vit.MLPMixer(**{**TINY, "classes": 5, **settings})


IMAGES = np.random.default_rng(0).normal(size=(2, *TINY["input_shape"])).astype("float32")


@pytest.mark.parametrize(("name", "costs"), COSTS.items())
def test_costs(name, costs):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == costs


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("mixer_*") == sorted(COSTS)


def test_the_block_against_its_formula():
    tokens = np.random.default_rng(0).normal(size=(2, 5, 12)).astype("float32")
    layer = randomized(MixerBlock(5, 12, token_mlp_dim=7, channel_mlp_dim=20), tokens)
    w = weights(layer)
    y = (norm(tokens) * w["norm1/gamma"] + w["norm1/beta"]).swapaxes(1, 2)
    x = tokens + mlp(y, part(w, "token_mixing")).swapaxes(1, 2)
    expected = x + mlp(norm(x) * w["norm2/gamma"] + w["norm2/beta"], part(w, "channel_mixing"))
    np.testing.assert_allclose(layer(tokens), expected, atol=1e-4)


class TestTheComparisonCanFail:
    """The comparison with the reference detects each mistake that does not change the number of parameters."""

    def error(self, tmp_path, output="logits", swap=(), **settings):
        factor = {"logits": 1.0, "logits_small": 1 / 32}[output]
        arrays = timm_weights("mixer_s32_224", factor)
        for first, second in swap:
            arrays[first], arrays[second] = arrays[second], arrays[first]
        save_file(arrays, tmp_path / "weights.safetensors")
        model = keras_vit.Mixer_S32(classifier_activation=None, **settings)
        keras_vit.load_weights(model, tmp_path / "weights.safetensors")
        return relative_error(logits(model), fixture("mixer_s32_224")[output])

    def test_the_other_gelu(self, tmp_path):
        assert self.error(tmp_path, activation="gelu_tanh") > 1e-4

    def test_another_epsilon(self, tmp_path):
        assert self.error(tmp_path, "logits_small", epsilon=1e-5) > 1e-3

    def test_swapped_norms(self, tmp_path):
        names = [(f"blocks.3.norm1.{kind}", f"blocks.3.norm2.{kind}") for kind in ("weight", "bias")]
        assert self.error(tmp_path, swap=names) > 1e-3


def test_the_names_of_the_authors_files(tmp_path):
    """The authors' .npz files have Flax's layout: kernels are the transposes of PyTorch's."""
    names = {"stem.proj": "stem", "norm": "pre_head_layer_norm", "head": "head"}
    for i in range(8):
        names |= {
            f"blocks.{i}.norm1": f"MixerBlock_{i}/LayerNorm_0",
            f"blocks.{i}.norm2": f"MixerBlock_{i}/LayerNorm_1",
            f"blocks.{i}.mlp_tokens.fc1": f"MixerBlock_{i}/token_mixing/Dense_0",
            f"blocks.{i}.mlp_tokens.fc2": f"MixerBlock_{i}/token_mixing/Dense_1",
            f"blocks.{i}.mlp_channels.fc1": f"MixerBlock_{i}/channel_mixing/Dense_0",
            f"blocks.{i}.mlp_channels.fc2": f"MixerBlock_{i}/channel_mixing/Dense_1",
        }
    arrays = {}
    for name, array in timm_weights("mixer_s32_224_tanh").items():
        layer, _, kind = name.rpartition(".")
        kind = "bias" if kind == "bias" else "scale" if array.ndim == 1 else "kernel"
        axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[array.ndim]
        arrays[f"{names[layer]}/{kind}"] = array.transpose(axes)
    np.savez(tmp_path / "Mixer-S_32.npz", **arrays)
    model = keras_vit.Mixer_S32(classifier_activation=None, activation="gelu_tanh")
    report = keras_vit.load_weights(model, tmp_path / "Mixer-S_32.npz")
    assert report.project == "Google" and not report.unused
    assert relative_error(logits(model), fixture("mixer_s32_224_tanh")["logits"]) < 5e-5


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 12, 24)), ("avg", (None, 24))])
def test_without_the_top(pooling, shape):
    model, tokens = tiny(include_top=False, pooling=pooling), tiny(include_top=False)
    assert model.output_shape == shape
    tokens.set_weights(model.get_weights())
    expected = np.asarray(tokens(IMAGES))
    np.testing.assert_allclose(model(IMAGES), expected.mean(1) if pooling else expected, atol=1e-6)


def test_features_are_maps_of_patches():
    model = tiny()
    features = keras_vit.feature_extractor(model)(IMAGES)
    assert {name: map.shape for name, map in features.items()} == {f"block_{i}": (2, 4, 3, 24) for i in range(2)}
    assert list(keras_vit.feature_extractor(model, "pyramid")(IMAGES)) == ["stride_4"]


def test_stochastic_depth_rises_linearly_from_zero():
    model = tiny(depth=3, drop_path_rate=0.2)
    rates = [[getattr(model.get_layer(f"block_{i}"), f"drop_path{j}").rate for j in (1, 2)] for i in range(3)]
    np.testing.assert_allclose(rates, [[0, 0], [0.1, 0.1], [0.2, 0.2]])


def test_a_head_initialized_to_zero():
    assert not np.any(tiny(head_initializer="zeros").get_layer("head").kernel)


class TestBadInput:
    def test_an_image_size_that_is_not_a_multiple_of_the_patch(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 32 x 32; 224 x 224 would do"):
            keras_vit.Mixer_S32(input_shape=(225, 224, 3))

    def test_pooling(self):
        with pytest.raises(ValueError, match="pooling must be 'avg' or None; received 'token'"):
            tiny(include_top=False, pooling="token")

    def test_weights_of_another_image_size(self, tmp_path):
        model = keras_vit.Mixer_S32(input_shape=(256, 256, 3))
        with pytest.raises(ValueError, match=r"block_0\.token_mixing\.expand/kernel is \(49, 256\) in the file and"):
            keras_vit.load_weights(model, timm_file("mixer_s32_224", tmp_path))

    def test_a_trained_model_at_another_image_size(self):
        with pytest.raises(ValueError, match=r"cannot take images of 16 x 16.*depend on the number of tokens"):
            keras_vit.resize_model(tiny(), (16, 16, 3))

    def test_a_block_with_another_number_of_tokens(self):
        with pytest.raises(ValueError, match=r"expects \(batch, 5, 12\).*received the shape \(None, 6, 12\)"):
            MixerBlock(5, 12, 7, 20)(keras.Input((6, 12)))


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("mixer_s32", "mixer_s32_224", tmp_path)
