"""ConvMixer: costs, outputs and errors."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.convmixer.convmixer_block import ConvMixerBlock
from tests.layers.test_layers import gelu, randomized
from tests.models.convmixer.forms import TINY
from tests.models.files import check_files
from tests.models.test_reference import logits
from tests.reference import fixture, relative_error, timm_file, timm_weights

# Parameters and multiply-accumulates at 224 x 224 of timm's models.
COSTS = {
    "convmixer_768_32": (21_110_248, 20_676_851_712),
    "convmixer_1024_20": (24_383_464, 5_948_547_072),
    "convmixer_1536_20": (51_625_960, 51_099_168_768),
}
IMAGES = np.random.default_rng(0).normal(size=(2, *TINY["input_shape"])).astype("float32")


def tiny(**settings):
    return keras_vit.ConvMixer(**{**TINY, "classes": 5, **settings})


@pytest.mark.parametrize(("name", "costs"), COSTS.items())
def test_costs(name, costs):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == costs


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("convmixer_*") == sorted(COSTS)


def test_the_block_against_its_formula():
    maps = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    layer = randomized(ConvMixerBlock(3, 3), maps)

    def parameters(part):
        return [np.asarray(weight) for weight in (*part.conv.weights, part.norm.gamma, part.norm.beta)]

    kernel, bias, gamma, beta = parameters(layer.depthwise)
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    mixed = sum(padded[:, i : i + 4, j : j + 5] * kernel[i, j, :, 0] for i in range(3) for j in range(3))
    x = maps + gelu(mixed + bias) / np.sqrt(1 + 1e-5) * gamma + beta
    kernel, bias, gamma, beta = parameters(layer.pointwise)
    expected = gelu(x @ kernel[0, 0] + bias) / np.sqrt(1 + 1e-5) * gamma + beta
    np.testing.assert_allclose(layer(maps), expected, atol=1e-4)


class TestTheComparisonCanFail:
    """The comparison with the reference detects each mistake that does not change the number of parameters."""

    def error(self, tmp_path, output="logits", arrays=None, **settings):
        path = timm_file("convmixer_1024_20_ks9_p14", tmp_path, {"logits": 1.0, "logits_small": 1 / 32}[output])
        if arrays is not None:
            save_file(arrays, path)
        model = keras_vit.ConvMixer_1024_20(classifier_activation=None, **settings)
        keras_vit.load_weights(model, path)
        return relative_error(logits(model), fixture("convmixer_1024_20_ks9_p14")[output])

    def test_another_epsilon(self, tmp_path):
        assert self.error(tmp_path, "logits_small", epsilon=1e-4) > 1e-2

    @pytest.mark.slow
    def test_the_other_activations(self, tmp_path):
        assert self.error(tmp_path, activation="relu") > 1e-2
        assert self.error(tmp_path, activation="gelu_tanh") > 1e-4

    def test_a_transposed_depthwise_kernel(self, tmp_path):
        arrays = timm_weights("convmixer_1024_20_ks9_p14")
        name = "blocks.7.0.fn.0.weight"
        arrays[name] = np.ascontiguousarray(arrays[name].swapaxes(2, 3))
        assert self.error(tmp_path, arrays=arrays) > 1e-3


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 7, 5, 16)), ("avg", (None, 16))])
def test_without_the_top(pooling, shape):
    model, maps = tiny(include_top=False, pooling=pooling), tiny(include_top=False)
    assert model.output_shape == shape
    maps.set_weights(model.get_weights())
    expected = np.asarray(maps(IMAGES))
    np.testing.assert_allclose(model(IMAGES), expected.mean((1, 2)) if pooling else expected, atol=1e-6)


def test_pixels_beyond_the_last_whole_patch_are_not_used():
    model, changed = tiny(), IMAGES.copy()
    changed[:, 28:] = changed[:, :, 20:] = 7
    np.testing.assert_array_equal(model(changed), model(IMAGES))


def test_features_and_another_image_size():
    model = tiny()
    features = keras_vit.feature_extractor(model)(IMAGES)
    assert {name: map.shape for name, map in features.items()} == {f"block_{i}": (2, 7, 5, 16) for i in range(2)}
    resized, plain = keras_vit.resize_model(model, (16, 24, 3)), tiny(input_shape=(16, 24, 3))
    plain.set_weights(model.get_weights())
    images = IMAGES[:, :16].repeat(2, axis=2)[:, :, :24]
    np.testing.assert_allclose(resized(images), plain(images), atol=1e-6)


def test_stochastic_depth_rises_linearly_from_zero():
    model = tiny(depth=3, drop_path_rate=0.2)
    np.testing.assert_allclose([model.get_layer(f"block_{i}").drop_path.rate for i in range(3)], [0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 4}, "odd positive integer; received 4"),
        ({"input_shape": (3, 30, 3)}, r"at most the sides of an image of 3 x 30; received 4"),
        ({"patch_size": 0}, "patch_size must be positive.*received 0"),
        ({"include_top": False, "pooling": "token"}, "pooling must be 'avg' or None; received 'token'"),
    ],
)
def test_errors_name_the_argument(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("convmixer_1024_20", "convmixer_1024_20_ks9_p14", tmp_path)
