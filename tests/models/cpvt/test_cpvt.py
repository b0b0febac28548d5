"""CPVT and Twins: costs, layers against their formulas, outputs, weights, windows, other sizes, files and errors."""

import math

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge
from keras_vit.graph.flattening import leaves
from keras_vit.layers import LayerNorm
from keras_vit.models.cpvt.local_attention import LocalAttention
from keras_vit.models.cpvt.position_generator import PositionGenerator, TokenPositionGenerator
from keras_vit.training.optimizers.factory import layer_depths
from tests.layers.test_layers import attention, randomized, weights
from tests.models.cases import IMAGES, TOKENS, build, images_of
from tests.models.cpvt.forms import TINY_CPVT, TINY_TWINS
from tests.models.files import check_files
from tests.models.test_reference import logits
from tests.reference import SCALES, fixture, relative_error, timm_file, timm_weights

# Of CPVT, the base size has no reference: DeiT-B's parameters less the positions, and a convolution with a bias.
_BASE = 86_567_656 - 197 * 768 + 10 * 768
QUICK = ("cpvt_ti", "cpvt_ti_gap", "twins_pcpvt_s", "twins_svt_s")
COSTS = {  # Parameters, and timm's multiply-accumulates where it has the model.
    "cpvt_ti": (5_681_512, None),
    "cpvt_ti_gap": (5_681_320, None),
    "cpvt_s": (21_978_856, None),
    "cpvt_s_gap": (21_978_856 - 384, None),
    "cpvt_b": (_BASE, None),
    "cpvt_b_gap": (_BASE - 768, None),
    "twins_pcpvt_s": (24_106_216, 3_809_459_968),
    "twins_pcpvt_b": (43_828_456, 6_652_933_888),
    "twins_pcpvt_l": (60_989_672, 9_807_524_096),
    "twins_svt_s": (24_060_776, 2_927_353_344),
    "twins_svt_b": (56_070_952, 8_562_612_480),
    "twins_svt_l": (99_271_400, 15_111_777_280),
}
PICTURES = np.random.default_rng(0).normal(size=(2, 32, 24, 3)).astype("float32")
both = pytest.mark.parametrize("kind", ["Twins-PCPVT", "Twins-SVT, padded"])


def tiny(form, **settings):
    form, given = {
        "CPVT, averages": ("CPVT", {"class_token": False}),
        "Twins-PCPVT": ("Twins-SVT", {"window": None}),
        "Twins-SVT, padded": ("Twins-SVT", {"window": 5}),  # Windows that divide no map, and are larger than one.
    }.get(form, (form, {}))
    return build(f"cpvt: {form}", **{**given, **settings})


def marked(names):
    """Yield the names; the largest models are left to the slow tests."""
    for name in names:
        yield pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", marked(COSTS))
def test_costs(name):
    info = keras_vit.model_info(name)
    parameters, macs = COSTS[name]
    assert info["parameters"] == parameters and macs in (None, info["macs"])


def test_every_variant_has_its_costs():
    assert sorted(keras_vit.list_models("cpvt*") + keras_vit.list_models("twins*")) == sorted(COSTS)


def generated(maps, w):
    """Add a 3 x 3 depthwise convolution at every pixel."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = maps.shape[1:3]
    kernel = w["conv/kernel"][..., 0]
    added = [
        [(padded[:, r : r + 3, c : c + 3] * kernel).sum((1, 2)) + w["conv/bias"] for c in range(columns)]
        for r in range(rows)
    ]
    return maps + np.array(added).transpose(2, 0, 1, 3)


def test_positions_of_a_map_against_their_formula():
    layer = randomized(PositionGenerator(), IMAGES)
    np.testing.assert_allclose(layer(IMAGES), generated(IMAGES, weights(layer)), atol=1e-5)


@pytest.mark.parametrize(("grid", "prefix"), [((2, 2), 1), ((1, 5), 0)])
def test_positions_of_patches_leave_the_class_token_alone(grid, prefix):
    layer = randomized(TokenPositionGenerator(grid), TOKENS)
    maps = generated(TOKENS[:, prefix:].reshape(2, *grid, 12), weights(layer))
    outputs = np.asarray(layer(TOKENS))
    np.testing.assert_allclose(outputs[:, prefix:], maps.reshape(2, -1, 12), atol=1e-5)
    np.testing.assert_array_equal(outputs[:, :prefix], TOKENS[:, :prefix])


@pytest.mark.parametrize("window", [4, 5, 13])
def test_attention_in_windows_against_its_formula(window):
    """Windows that do not fit are padded with zeros, whose keys and values are the biases."""
    layer = randomized(LocalAttention(3, 3, (8, 12), window), IMAGES)
    w = weights(layer)
    height, width = (math.ceil(side / window) * window for side in (8, 12))
    padded = np.pad(IMAGES, ((0, 0), (0, height - 8), (0, width - 12), (0, 0)))
    expected = np.zeros_like(padded)
    for top in range(0, height, window):
        for left in range(0, width, window):
            inside = slice(top, top + window), slice(left, left + window)
            tokens = padded[:, inside[0], inside[1]].reshape(2, -1, 3)
            expected[:, inside[0], inside[1]] = attention(tokens, w, 3).reshape(2, window, window, 3)
    np.testing.assert_allclose(layer(IMAGES), expected[:, :8, :12], atol=1e-4)


class TestAChangedDetailDoesNotPassTheComparison:
    def error(self, model, name, outputs, folder):
        keras_vit.load_weights(model, timm_file(name, folder, SCALES[outputs]))
        return relative_error(logits(model), fixture(name)[outputs])

    def test_the_epsilon_of_cpvt(self, tmp_path):
        model = keras_vit.CPVT_Ti(classifier_activation=None, epsilon=1e-5)
        assert self.error(model, "cpvt_tiny", "logits_small", tmp_path) > 1e-3

    def test_positions_before_the_first_block(self, tmp_path):
        """The same weights in the wrong place: the generator sees what the second block gives."""
        arrays = timm_weights("cpvt_tiny_gap")
        for name in [name for name in arrays if name.startswith("blocks.0.")]:
            other = name.replace("blocks.0.", "blocks.1.")
            arrays[name], arrays[other] = arrays[other], arrays[name]
        save_file(arrays, tmp_path / "swapped.safetensors")
        model = keras_vit.CPVT_Ti_GAP(classifier_activation=None, weights=tmp_path / "swapped.safetensors")
        assert relative_error(logits(model), fixture("cpvt_tiny_gap")["logits"]) > 1e-2

    def test_the_mean_over_the_class_token_too(self, tmp_path):
        """The two forms of pooling differ."""
        model = keras_vit.CPVT_Ti(classifier_activation=None, pooling="avg")
        assert self.error(model, "cpvt_tiny", "logits", tmp_path) > 1e-2

    @pytest.mark.slow
    @pytest.mark.parametrize("settings", [{"epsilon": 1e-3}, {"embedding_epsilon": 1e-6}], ids=["blocks", "embeddings"])
    def test_the_epsilons_of_twins(self, settings, tmp_path):
        """The reference cannot tell 1e-5 from 1e-6 in the blocks, but it can tell Keras' default."""
        model = keras_vit.TwinsSVT_S(classifier_activation=None, **settings)
        assert self.error(model, "twins_svt_small", "logits_small", tmp_path) > 1e-4

    @pytest.mark.slow
    def test_windows_of_another_size(self, tmp_path):
        model = keras_vit.TwinsSVT_S(classifier_activation=None, window=14)
        assert self.error(model, "twins_svt_small", "logits", tmp_path) > 1e-2


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 13, 24)), ("token", (None, 24)), ("avg", (None, 24))])
def test_cpvt_without_the_top(pooling, shape):
    model, tokens = (tiny("CPVT", include_top=False, pooling=each) for each in (pooling, None))
    pictures = PICTURES[:, :16, :12]
    assert model.output_shape == shape
    expected = np.asarray(tokens(pictures))
    expected = {None: expected, "token": expected[:, 0], "avg": expected[:, 1:].mean(1)}[pooling]
    np.testing.assert_allclose(model(pictures), expected, atol=1e-5)


def test_cpvt_without_a_class_token_has_the_patches_only():
    assert tiny("CPVT, averages", include_top=False).output_shape == (None, 12, 24)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_twins_without_the_top(pooling):
    model, maps = (tiny("Twins-SVT", include_top=False, pooling=each) for each in (pooling, None))
    assert maps.output_shape == (None, 4, 3, 16)
    expected = np.asarray(maps(PICTURES))
    expected = expected.mean((1, 2)) if pooling == "avg" else expected.max((1, 2))
    np.testing.assert_allclose(model(PICTURES), expected, atol=1e-5)


def test_features_and_attention_of_cpvt():
    model, pictures = tiny("CPVT"), PICTURES[:, :16, :12]
    features = keras_vit.feature_extractor(model, [0, "position", -1])(pictures)
    assert {name: map.shape for name, map in features.items()} == dict.fromkeys(
        ("block_0", "position", "block_1"), (2, 4, 3, 24)
    )
    maps = keras_vit.attention_maps(model, pictures)
    assert {name: map.shape for name, map in maps.items()} == dict.fromkeys(("block_0", "block_1"), (2, 3, 13, 13))
    assert keras_vit.attention_rollout(model, pictures).shape == (2, 4, 3)


@both
def test_features_of_twins(kind):
    features = keras_vit.feature_extractor(tiny(kind), "pyramid")(PICTURES)
    assert {name: map.shape for name, map in features.items()} == {
        "stride_4": (2, 8, 6, 12),
        "stride_8": (2, 4, 3, 16),
    }


def test_attention_in_windows_is_put_back_into_place():
    model = tiny("Twins-SVT")
    for form in (model, keras_vit.fuse(model)):
        maps = keras_vit.attention_maps(form, PICTURES)
        assert {name: map.shape for name, map in maps.items()} == {
            "stage_0_block_0": (2, 2, 48, 48),
            "stage_0_block_1": (2, 2, 48, 12),
            "stage_1_block_0": (2, 4, 12, 12),
            "stage_1_block_1": (2, 4, 12, 12),
        }
        row, column = np.divmod(np.arange(48), 6)
        window = row // 2 * 3 + column // 2
        assert np.array_equal(maps["stage_0_block_0"][0, 0] > 0, window[:, None] == window)
        assert np.allclose(maps["stage_0_block_0"].sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "settings", "size"),
    [("CPVT", TINY_CPVT, (24, 20)), ("Twins-SVT, padded", {**TINY_TWINS, "window": 5}, (48, 40))],
)
def test_another_image_size(form, settings, size):
    """No weight depends on the size of the images."""
    model = tiny(form)
    resized = keras_vit.resize_model(model, (*size, 3))
    builder = getattr(keras_vit, form.split("-")[0])
    direct = builder(**{**settings, "input_shape": (*size, 3)}, classes=5, classifier_activation=None)
    direct.set_weights(model.get_weights())
    picture = np.random.default_rng(0).normal(size=(1, *size, 3)).astype("float32")
    np.testing.assert_allclose(resized(picture), direct(picture), atol=1e-6)


def test_learning_rates_by_depth():
    model = tiny("Twins-SVT")
    depths = {v.path: depth for v, depth in zip(model.trainable_variables, layer_depths(model), strict=True)}
    assert depths["stage_0_embedding/projection/kernel"] == 0 and depths["head/kernel"] == 5
    assert depths["stage_0_position/conv/kernel"] == depths["stage_0_block_0/mlp/expand/kernel"] == 1
    assert depths["stage_1_block_1/mlp/expand/kernel"] == 4


def test_stochastic_depth_rises_linearly():
    model = tiny("Twins-SVT", drop_path_rate=0.3)
    blocks = [model.get_layer(f"stage_{i}_block_{j}") for i in range(2) for j in range(2)]
    assert [block.drop_path1.rate for block in blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    blocks = [tiny("CPVT", drop_path_rate=0.3).get_layer(f"block_{i}") for i in range(2)]
    assert [block.drop_path1.rate for block in blocks] == pytest.approx([0, 0.3])


def test_norms_of_both_kinds():
    epsilons = [layer.epsilon for _, layer in leaves(keras_vit.TwinsSVT_S()) if isinstance(layer, LayerNorm)]
    # Four embeddings, and the reductions of every second block but those of the last stage.
    assert (epsilons.count(1e-5), epsilons.count(1e-6)) == (4 + 1 + 1 + 5, 2 * 18 + 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reference"),
    [("cpvt_ti", "cpvt_tiny"), ("twins_pcpvt_s", "twins_pcpvt_small"), ("twins_svt_s", "twins_svt_small")],
)
def test_the_files_of_a_published_size(name, reference, tmp_path):
    check_files(name, reference, tmp_path)


class TestBadInput:
    def test_an_image_size_that_is_not_a_multiple_of_the_patch(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 16 x 16; 224 x 224 would do"):
            keras_vit.CPVT_Ti(input_shape=(225, 224, 3))

    @both
    def test_an_image_size_that_is_not_a_multiple_of_the_strides(self, kind):
        with pytest.raises(ValueError, match=r"multiples of 8; received 33 x 24, and 32 x 24 would do"):
            tiny(kind, input_shape=(33, 24, 3))

    def test_a_class_token_that_is_not_there(self):
        with pytest.raises(ValueError, match="Without a class token, pooling must be 'avg' or None; received 'token'"):
            tiny("CPVT, averages", pooling="token")

    @both
    def test_stages_without_heads(self, kind):
        with pytest.raises(ValueError, match=r"a number for each stage; received .*num_heads=\(2,\)"):
            tiny(kind, num_heads=(2,))

    @pytest.mark.parametrize("form", ["CPVT", "Twins-SVT"])
    def test_heads_that_do_not_divide_the_width(self, form):
        with pytest.raises(ValueError, match=r"num_heads must divide width; received num_heads=5 and width=(24|12)"):
            tiny(form, num_heads=5 if form == "CPVT" else (5, 4))

    def test_windows_of_one_pixel(self):
        with pytest.raises(ValueError, match="window must be 2 or more, or None for no windows; received 1"):
            tiny("Twins-SVT", window=1)

    def test_a_map_that_is_smaller_than_its_reduction(self):
        with pytest.raises(ValueError, match="A map of 8 x 6 pixels cannot be reduced 7 times"):
            tiny("Twins-PCPVT", reductions=(7, 1))

    def test_pooling(self):
        with pytest.raises(ValueError, match="pooling must be 'avg', 'max' or None; received 'token'"):
            tiny("Twins-SVT", include_top=False, pooling="token")

    def test_fewer_tokens_than_patches(self):
        with pytest.raises(ValueError, match=r"2 x 3 patches expects .* at least 6 tokens; received .*\(2, 5, 12\)"):
            TokenPositionGenerator((2, 3))(TOKENS)

    def test_weights_of_the_other_kind(self, tmp_path):
        save_file(timm_weights("twins_svt_small"), tmp_path / "svt.safetensors")
        with pytest.raises(ValueError, match="holds weights of another model than 'twins_pcpvt_s'"):
            keras_vit.TwinsPCPVT_S(weights=tmp_path / "svt.safetensors")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("Twins-SVT, padded", marks=pytest.mark.slow),
        pytest.param("CPVT, averages", marks=pytest.mark.slow),
        pytest.param("Twins-PCPVT", marks=pytest.mark.slow),
    ],
)
def test_a_fused_model_and_its_file_give_the_same(form, tmp_path):
    model = tiny(form)
    pictures = images_of(model)
    expected = np.asarray(model(pictures))
    assert relative_error(np.asarray(keras_vit.fuse(model)(pictures)), expected) < 1e-5
    file = edge.export(model, tmp_path / "model.tflite")
    assert edge.audit(file).partitions == 1
    assert edge.verify(model, file, pictures).max_relative_error < 2e-5
