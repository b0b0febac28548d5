"""Swin Transformer, versions 1 and 2: costs, outputs, windows, weights, attention maps, sizes and export."""

import math
import re

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge
from keras_vit.graph.flattening import leaves
from keras_vit.layers import DropPath, LayerNorm
from keras_vit.layers.window_bias import RelativePositionBias, WindowBias
from keras_vit.models.swin.continuous_position_bias import ContinuousPositionBias
from keras_vit.models.swin.swin_block import PatchMerging
from keras_vit.models.swin.unit_norm import UnitNorm
from keras_vit.models.swin.window_attention import CosineWindowAttention, WindowAttention
from tests.models.cases import build, randomize
from tests.models.swin.forms import TINY
from tests.reference import fixture, images, relative_error, timm_file, timm_weights

_W12, _W16, _W24 = {"window": 12}, {"window": 16}, {"window": 24}
# Registry name, settings, side of the images, trainable parameters and multiply-accumulates.
COSTS = [
    ("swin_t", {}, 224, 28_288_354, 4_490_566_656),
    ("swin_s", {}, 224, 49_606_258, 8_740_875_264),
    ("swin_b", {}, 224, 87_768_224, 15_430_946_816),
    ("swin_b", _W12, 384, 87_903_584, 47_083_134_976),
    ("swin_l", {}, 224, 196_532_476, 34_475_759_616),
    ("swin_l", _W12, 384, 196_735_516, 103_919_087_616),
    ("swinv2_t", {}, 256, 28_347_154, 5_939_690_496),
    ("swinv2_t", _W16, 256, 28_347_154, 6_660_619_264),
    ("swinv2_s", {}, 256, 49_728_418, 11_545_857_024),
    ("swinv2_s", _W16, 256, 49_728_418, 12_783_078_400),
    ("swinv2_b", {}, 256, 87_918_816, 20_325_134_336),
    ("swinv2_b", {**_W12, "classes": 21841}, 192, 109_280_841, 11_877_602_304),
    ("swinv2_b", _W16, 256, 87_918_816, 21_969_235_968),
    ("swinv2_b", _W24, 384, 87_918_816, 55_148_310_528),
    ("swinv2_l", {**_W12, "classes": 21841}, 192, 228_772_549, 26_133_917_184),
    ("swinv2_l", {}, 256, 196_739_932, 47_740_303_360),
    ("swinv2_l", _W24, 384, 196_739_932, 115_991_427_072),
]
IMAGES = np.random.default_rng(0).random((3, 32, 32, 3), "float32")
both = pytest.mark.parametrize("version", ["Swin", "SwinV2"])


def tiny(version, **settings):
    return build(f"swin: {version}", **settings)


def costs():
    """Yield the costs; those of many large models are compared only in the slow tests."""
    for name, settings, *rest in COSTS:
        quick = name.endswith("_t") or (name, settings) in (("swin_b", _W12), ("swinv2_l", {}))
        yield pytest.param(name, settings, *rest, marks=[pytest.mark.slow] * (not quick))


@pytest.mark.parametrize(("name", "settings", "side", "parameters", "macs"), costs())
def test_costs(name, settings, side, parameters, macs):
    info = keras_vit.model_info(name, **settings, input_shape=(side, side, 3))
    assert (info["parameters"], info["macs"]) == (parameters, macs)


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("swin*") == sorted({name for name, *_ in COSTS})


class TestAChangedDetailDoesNotPassTheComparison:
    """Each detail of the models counts in the comparison with the reference outputs."""

    def loaded(self, name, scale, folder, function, **settings):
        model = function(classifier_activation=None, **settings)
        keras_vit.load_weights(model, timm_file(name, folder, scale))
        return model

    def error(self, model, name, outputs):
        expected = fixture(name)
        size = tuple(map(int, np.broadcast_to(expected["image_size"], 2)))
        return relative_error(np.asarray(model(images(size)[:1], training=False)), expected[outputs][:1])

    def test_epsilon(self, tmp_path):
        name = "swin_tiny_patch4_window7_224"
        model = self.loaded(name, 1 / 32, tmp_path, keras_vit.Swin_T)
        norms = [layer for _, layer in leaves(model) if isinstance(layer, LayerNorm)]
        assert len(norms) == 1 + 2 * 12 + 3 + 1 and self.error(model, name, "logits_small") < 1e-4
        for norm in norms:
            norm.epsilon = 1e-6
        assert self.error(model, name, "logits_small") > 1e-3

    def test_padding_before_the_shift(self, tmp_path):
        name = "swin_tiny_patch4_window7_224_authors_at_256x320"
        model = self.loaded(name, 1.0, tmp_path, keras_vit.Swin_T, input_shape=(256, 320, 3), pad_first=False)
        assert self.error(model, name, "logits") == pytest.approx(
            float(fixture(name)["difference_of_timm_at_this_size"]), rel=0.3
        )

    def test_largest_temperature_and_window_of_the_training(self, tmp_path, monkeypatch):
        name = "swinv2_tiny_window8_256"
        model = self.loaded(name, 3.0, tmp_path, keras_vit.SwinV2_T)
        assert self.error(model, name, "logits_large") < 1e-4
        biases = [layer for _, layer in leaves(model) if isinstance(layer, ContinuousPositionBias)]
        assert len(biases) == 12
        for bias in biases:
            bias.pretrained_window = (6, 6)
        assert self.error(model, name, "logits_large") > 1e-3
        for bias in biases:
            bias.pretrained_window = (8, 8)
        monkeypatch.setattr("keras_vit.models.swin.unit_norm._LARGEST", math.log(1000))
        assert self.error(model, name, "logits_large") > 1e-3


def in_windows(maps, window):
    """Yield the rows and columns of the pixels of each window of a map."""
    height, width = maps.shape[:2]
    for top in range(0, height, window[0]):
        for left in range(0, width, window[1]):
            rows, columns = np.meshgrid(range(top, top + window[0]), range(left, left + window[1]), indexing="ij")
            yield rows.ravel(), columns.ravel()


def attention(x, w, heads, window, shift, bias):
    """Compute attention in shifted windows of one map (height, width, channels), pair by pair of pixels.

    `bias(head, rows, columns)` is that of two pixels so many rows and columns apart. Pixels that are neighbors only
    after the shift do not see each other.
    """
    height, width, channels = x.shape
    padded = [math.ceil(side / part) * part for side, part in zip((height, width), window, strict=True)]
    maps = np.zeros((*padded, channels))
    maps[:height, :width] = x
    query, key, value = (maps @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0) for name in ("query", "key", "value"))
    context = np.zeros_like(maps)
    dim = channels // heads
    for rows, columns in in_windows(maps, window):
        # The pixel at a place of the shifted map, and whether the shift wrapped it around.
        row, column = (rows + shift[0]) % padded[0], (columns + shift[1]) % padded[1]
        part = (rows + shift[0] >= padded[0]) * 2 + (columns + shift[1] >= padded[1])
        for head in range(heads):
            at = slice(head * dim, (head + 1) * dim)
            for i in range(len(rows)):
                scores = w["score"](query[row[i], column[i], at], key[row, column, at], head)
                apart = zip(rows[i] - rows, columns[i] - columns, strict=True)
                scores = scores + np.array([bias(head, *distance) for distance in apart])
                scores[part != part[i]] = -np.inf
                scores = np.exp(scores - scores.max())
                context[row[i], column[i], at] = scores / scores.sum() @ value[row, column, at]
    return (context @ w["projection/kernel"] + w["projection/bias"])[:height, :width]


def weights_of(layer):
    return {"/".join(v.path.split("/")[-2:]): np.array(v, "float64") for v in layer.weights}


def randomized(layer, shape):
    layer.build(shape)
    random = np.random.default_rng(3)
    for variable in layer.weights:
        variable.assign(random.normal(size=variable.shape) * (0.5 if variable.name != "logit_scale" else 1.5))
    return layer


SIZES = [((4, 6), 2), ((6, 4), 4), ((5, 7), 3), ((3, 8), 4)]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("size", "side"), SIZES)
def test_window_attention_computes_the_formula(size, side, shifted):
    block = WindowAttention(6, 2, size, side, shifted)
    layer = randomized(block, (None, *size, 6))
    x = np.random.default_rng(1).normal(size=(2, *size, 6)).astype("float32")
    w = weights_of(layer) | {"score": lambda query, keys, head: keys @ query * 3**-0.5}
    window = [min(side, length) for length in size]
    shift = [side // 2 if shifted and length > side else 0 for length in size]

    def bias(head, rows, columns):
        table = w["bias/table"].reshape(2 * window[0] - 1, 2 * window[1] - 1, 2)
        return table[rows + window[0] - 1, columns + window[1] - 1, head]

    expected = np.stack([attention(image.astype("float64"), w, 2, window, shift, bias) for image in x])
    assert relative_error(np.asarray(layer(x)), expected) < 1e-5


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("pretrained", [None, (3, 2)])
def test_cosine_window_attention_computes_the_formula(shifted, pretrained):
    size, window = (4, 8), (4, 4)
    block = CosineWindowAttention(6, 2, size, 4, shifted, pretrained_window=pretrained)
    layer = randomized(block, (None, *size, 6))
    x = np.random.default_rng(1).normal(size=(2, *size, 6)).astype("float32")
    w = weights_of(layer)

    def score(query, keys, head):
        cosines = keys @ query / np.linalg.norm(query) / np.linalg.norm(keys, axis=1)
        return cosines * min(np.exp(w["query_norm/logit_scale"][head, 0, 0]), 100)

    def bias(head, *apart):
        largest = [side - 1 for side in (pretrained or window)]
        apart = [8 * distance / most for distance, most in zip(apart, largest, strict=True)]
        coordinates = np.array([np.sign(a) * np.log2(abs(a) + 1) / np.log2(8) for a in apart])
        hidden = np.maximum(coordinates @ w["bias/hidden_kernel"] + w["bias/hidden_bias"], 0)
        return 16 / (1 + np.exp(-hidden @ w["bias/output_kernel"][:, head]))

    shift = (0, 2) if shifted else (0, 0)  # The map is as high as a window.
    expected = np.stack(
        [attention(image, w | {"score": score}, 2, window, shift, bias) for image in x.astype("float64")]
    )
    assert relative_error(np.asarray(layer(x)), expected) < 1e-5


def test_patch_merging_joins_pixels_column_by_column():
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 3, 4, 2)).astype("float32")
    layer = randomized(PatchMerging(5, (3, 4)), x.shape)
    w = weights_of(layer)
    padded = np.pad(x.astype("float64"), ((0, 0), (0, 1), (0, 0), (0, 0)))
    joined = np.concatenate([padded[:, i::2, j::2] for j in range(2) for i in range(2)], axis=-1)
    joined = (joined - joined.mean(-1, keepdims=True)) / np.sqrt(joined.var(-1, keepdims=True) + 1e-5)
    expected = (joined * w["norm/gamma"] + w["norm/beta"]) @ w["reduction/kernel"]
    assert relative_error(np.asarray(layer(x)), expected) < 1e-5


@both
def test_maps_of_every_stride_and_pooling(version):
    model = tiny(version, include_top=False)
    maps = keras_vit.feature_extractor(model, "pyramid")(IMAGES)
    assert {name: array.shape for name, array in maps.items()} == {
        "stride_4": (3, 8, 8, 12),
        "stride_8": (3, 4, 4, 24),
        "stride_16": (3, 2, 2, 48),
    }
    last = np.asarray(model(IMAGES))
    assert last.shape == (3, 2, 2, 48)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = np.asarray(tiny(version, include_top=False, pooling=pooling)(IMAGES))
        assert relative_error(pooled, reduce(last, axis=(1, 2))) < 1e-5


@both
def test_stochastic_depth_rises_linearly_from_zero(version):
    model = tiny(version, drop_path_rate=0.3)
    rates = [layer.rate for _, layer in leaves(model) if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates, np.repeat(np.linspace(0, 0.3, 5), 2))
    assert not np.allclose(model(IMAGES, training=True), model(IMAGES, training=True))


@both
def test_dropout_reaches_the_embedding_the_attention_the_mlp_and_the_head(version):
    model = tiny(version, dropout_rate=0.2, attention_dropout_rate=0.1)
    block = model.get_layer("stage_1_block_1")
    assert block.attention.dropout.rate == block.mlp.dropout.rate == 0.2
    assert model.get_layer("embedding_dropout").rate == model.get_layer("dropout").rate == 0.2
    assert block.attention.attention_dropout.rate == 0.1


def test_the_blocks_of_version_2_start_as_the_identity():
    model = keras_vit.SwinV2(**TINY, include_top=False)
    maps = keras_vit.feature_extractor(model, ["patch_embedding", "stage_0_block_1"])(IMAGES)
    np.testing.assert_array_equal(maps["stage_0_block_1"], maps["patch_embedding"])


@both
def test_every_second_block_is_shifted(version):
    model = tiny(version)
    shifts = {
        f"{stage}_{block}": model.get_layer(f"stage_{stage}_block_{block}").attention.windows.shift
        for stage in range(2)
        for block in range(2)
    }
    # The second stage has a single window.
    assert shifts == {"0_0": (0, 0), "0_1": (2, 2), "1_0": (0, 0), "1_1": (0, 0)}


@both
def test_fusing_makes_bias_and_mask_one_constant(version):
    model = tiny(version)
    fused = keras_vit.fuse(model)
    assert relative_error(np.asarray(fused(IMAGES)), np.asarray(model(IMAGES))) < 1e-5
    kinds = [type(layer) for layer in fused.layers]
    assert not {RelativePositionBias, ContinuousPositionBias} & set(kinds) and kinds.count(WindowBias) == 5
    shapes = [tuple(layer.bias.shape) for layer in fused.layers if isinstance(layer, WindowBias)]
    assert shapes == [(2, 1, 256), (2, 4, 256), (3, 1, 256), (3, 1, 256), (4, 1, 16)]
    if version == "Swin":  # Norms go into the dense layers through shifts and windows.
        norms = [layer for layer in fused.layers if isinstance(layer, LayerNorm) and "block" in layer.name]
        assert len(norms) == 10 and not any(norm.affine for norm in norms)
        # In the last stage, the norms' inputs come from dense layers, which subtract the mean, and go to norms only.
        assert not any(norm.subtract_mean for norm in norms if "stage_2" in norm.name)
        assert all(norm.subtract_mean for norm in norms if "stage_2" not in norm.name)


class TestAttentionMaps:
    @both
    def test_windows_are_put_back_in_place(self, version):
        model = tiny(version)
        maps = keras_vit.attention_maps(model, IMAGES[:2])
        assert {name: array.shape for name, array in maps.items()} == {
            "stage_0_block_0": (2, 2, 64, 64),
            "stage_0_block_1": (2, 2, 64, 64),
            "stage_1_block_0": (2, 3, 16, 16),
            "stage_1_block_1": (2, 3, 16, 16),
            "stage_2_block_0": (2, 4, 4, 4),
        }
        row, column = np.divmod(np.arange(64), 8)
        for name, shift in (("stage_0_block_0", 0), ("stage_0_block_1", 2)):
            np.testing.assert_allclose(maps[name].sum(-1), 1, atol=1e-5)
            # Pixels of one window: it begins at 0 and 4, or at 2 after the shift, with the border rows by themselves.
            part = (row + shift) // 4 * 3 + (column + shift) // 4
            assert np.array_equal(maps[name][0, 0] > 1e-12, part[:, None] == part)
        for form in (keras_vit.fuse(model), edge.quantize_aware(model, calibration_data=IMAGES)):
            for name, array in keras_vit.attention_maps(form, IMAGES[:2]).items():
                assert np.abs(array - maps[name]).max() < 0.2

    def test_attention_explains_the_output_of_a_block(self):
        """The maps times the values are what the attention passes on, wherever the windows are."""
        model = build("swin: Swin, padded")
        block = model.get_layer("stage_0_block_1")
        picture = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype("float32")
        maps = keras_vit.attention_maps(model, picture)["stage_0_block_1"][0]
        before = np.asarray(keras.Model(model.input, block.input)(picture))
        normed = block.norm1(before)
        tokens = np.asarray(block.attention.value(normed)).reshape(48, 2, 6).transpose(1, 0, 2)
        context = (maps @ tokens).transpose(1, 0, 2).reshape(1, 8, 6, 12)
        # The map is padded at the bottom; the first window of the shifted map has no padding among its keys.
        expected = np.asarray(block.attention(normed))[0, 1:4, 1:4]
        given = np.asarray(block.attention.projection(context))[0, 1:4, 1:4]
        np.testing.assert_allclose(given, expected, atol=1e-5)


def bicubic(table, before, after):
    """Resize a table (rows, columns) as PyTorch: a cubic kernel with a = -0.75, half-pixel centers, repeated edges."""

    def kernel(x, a=-0.75):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    result = np.zeros(after)
    for i in range(after[0]):
        for j in range(after[1]):
            y, x = ((k + 0.5) * old / new - 0.5 for k, old, new in zip((i, j), before, after, strict=True))
            for r in range(math.floor(y) - 1, math.floor(y) + 3):
                for c in range(math.floor(x) - 1, math.floor(x) + 3):
                    inside = table[min(max(r, 0), before[0] - 1), min(max(c, 0), before[1] - 1)]
                    result[i, j] += kernel(y - r) * kernel(x - c) * inside
    return result


class TestOtherWindows:
    def test_position_biases_of_another_window_are_resized(self, tmp_path):
        model = tiny("Swin")
        path = tmp_path / "window4.safetensors"
        save_file(timm_names(model), path)
        other = keras_vit.Swin(
            **{**TINY, "input_shape": (48, 48, 3), "window": 6}, classes=5, classifier_activation=None
        )
        report = keras_vit.load_weights(other, path)
        blocks = [*(f"stage_{i}_block_{j}" for i in range(2) for j in range(2)), "stage_2_block_0"]
        assert report.resized == [f"{block}.attention.bias/table" for block in blocks] and not report.unused
        for block in blocks:
            before, after = (np.array(m.get_layer(block).attention.bias.table) for m in (model, other))
            for head in range(before.shape[1]):
                old, new = (math.isqrt(len(table)) for table in (before, after))
                assert (old, new) == ((3, 5) if "stage_2" in block else (7, 11))
                expected = bicubic(before[:, head].reshape(old, old), (old, old), (new, new))
                np.testing.assert_allclose(after[:, head].reshape(new, new), expected, atol=1e-5)

    def test_a_table_that_is_not_of_a_square_window(self, tmp_path):
        arrays = timm_names(tiny("Swin"))
        name = "layers.0.blocks.0.attn.relative_position_bias_table"
        arrays[name] = arrays[name][:30]
        save_file(arrays, tmp_path / "odd.safetensors")
        with pytest.raises(ValueError, match=r"has 30 rows, which is not the number of a square window: \(2 \* window"):
            keras_vit.load_weights(tiny("Swin"), tmp_path / "odd.safetensors")

    def test_a_trained_model_takes_images_of_another_size(self):
        """A map that becomes smaller than the window has a smaller table; the others stay the same."""
        model = tiny("Swin")
        resized = keras_vit.resize_model(model, (32, 24, 3))
        picture = np.random.default_rng(0).normal(size=(1, 32, 24, 3)).astype("float32")
        assert np.all(np.isfinite(resized(picture)))
        before, after = (np.array(m.get_layer("stage_1_block_0").attention.bias.table) for m in (model, resized))
        assert before.shape == (49, 3) and after.shape == (35, 3)
        expected = bicubic(before[:, 1].reshape(7, 7), (7, 7), (7, 5))
        np.testing.assert_allclose(after[:, 1].reshape(7, 5), expected, atol=1e-5)
        first = [np.array(m.get_layer("stage_0_block_1").attention.bias.table) for m in (model, resized)]
        np.testing.assert_array_equal(*first)

    def test_version_2_keeps_the_distances_of_its_training(self):
        model = tiny("SwinV2")
        smaller = keras_vit.resize_model(model, (32, 16, 3))  # The maps are 8 x 4, 4 x 2 and 2 x 1.
        bias = smaller.get_layer("stage_1_block_0").attention.bias
        assert bias.windows.window == (4, 2) and bias.pretrained_window == (4, 4)
        before, after = (
            np.array(m.get_layer("stage_1_block_0").attention.bias.table_of_heads()) for m in (model, smaller)
        )
        # Distances of -1 to 1 are in the middle of the table of distances -3 to 3.
        np.testing.assert_allclose(after.reshape(7, 3, 3), before.reshape(7, 7, 3)[:, 2:5], rtol=1e-5)

    def test_a_checkpoint_has_its_own_window(self, monkeypatch, tmp_path):
        def built(record, **given):
            found = {}

            def take(_, path, **__):
                found["path"] = path

            monkeypatch.setattr("keras_vit.models.registry.fetch", lambda record, **_: record.repository)
            monkeypatch.setattr("keras_vit.weights.load.load_weights", take)
            with keras.StatelessScope(initialize_variables=False):
                model = keras_vit.create_model(record, **given)
            attention = model.get_layer("stage_0_block_0").attention
            return found["path"], model.input_shape[1], attention.windows.window, attention.settings

        path, side, window, settings = built("swinv2_b", weights="ms_in22k_ft_in1k_384")
        assert path == "timm/swinv2_base_window12to24_192to384.ms_in22k_ft_in1k" and (side, window) == (384, (24, 24))
        assert settings["pretrained_window"] == (12, 12)
        *_, window, settings = built("swinv2_b", weights="ms_in22k", window=8, input_shape=(256, 256, 3))
        assert window == (8, 8) and settings["pretrained_window"] == (12, 12)
        path, side, window, _ = built("swin_b", weights="ms_in1k_384")
        assert path == "timm/swin_base_patch4_window12_384.ms_in1k" and (side, window) == (384, (12, 12))
        path, side, window, _ = built("swinv2_t", weights="ms_in1k_window16")
        assert path == "timm/swinv2_tiny_window16_256.ms_in1k" and (side, window) == (256, (16, 16))

    def test_a_window_without_a_checkpoint(self):
        with pytest.raises(ValueError, match=r"'ms_in1k_window10' is neither.*nearest are ms_in1k_window16, ms_in1k"):
            keras_vit.SwinV2_T(weights="ms_in1k_window10")


def timm_names(model):
    """Return the weights of a model under timm's names, in PyTorch's layout."""
    arrays = {}
    for leaf, layer in leaves(model):
        for variable in layer.weights:
            arrays[f"{leaf}/{variable.name}"] = np.array(variable)
    named = {}
    for key, array in arrays.items():
        name, _, weight = key.rpartition("/")
        name = re.sub(r"^stage_(\d)_block_(\d)\.", r"layers.\1.blocks.\2.", name)
        name = re.sub(r"^stage_(\d)_downsample", r"layers.\1.downsample", name)
        for ours, timm in (
            ("patch_embedding.projection", "patch_embed.proj"),
            ("patch_embedding", "patch_embed"),
            ("attention.projection", "attn.proj"),
            ("attention.bias", "attn.relative_position_bias_table"),
            ("mlp.expand", "mlp.fc1"),
            ("mlp.contract", "mlp.fc2"),
            ("head", "head.fc"),
        ):
            name = name.replace(ours, timm)
        if weight == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        suffix = {"kernel": ".weight", "gamma": ".weight", "bias": ".bias", "beta": ".bias", "table": ""}[weight]
        named[name + suffix] = array
    for name in [name for name in named if ".attention.query." in name]:
        parts = [named.pop(name.replace("query", kind)) for kind in ("query", "key", "value")]
        named[name.replace("attention.query", "attn.qkv")] = np.concatenate(parts)
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


HUGGING_FACE = [
    (r"^patch_embed\.proj", "swin.embeddings.patch_embeddings.projection"),
    (r"^patch_embed\.norm", "swin.embeddings.norm"),
    (r"^layers\.(\d)\.downsample", lambda found: f"swin.encoder.layers.{int(found[1]) - 1}.downsample"),
    (r"^layers\.", "swin.encoder.layers."),
    (r"norm1", "layernorm_before"),
    (r"norm2", "layernorm_after"),
    (r"attn\.proj", "attention.output.dense"),
    (r"attn\.cpb_mlp", "attention.self.continuous_position_bias_mlp"),
    (r"attn\.", "attention.self."),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
    (r"self\.q_bias", "self.query.bias"),
    (r"self\.v_bias", "self.value.bias"),
    (r"^norm\.", "swin.layernorm."),
    (r"^head\.fc", "classifier"),
]


@pytest.mark.parametrize(
    ("name", "function"), [("swin_tiny_patch4_window7_224", "Swin_T"), ("swinv2_tiny_window8_256", "SwinV2_T")]
)
class TestOtherNames:
    def check(self, name, function, arrays, project, folder):
        save_file(arrays, folder / "model.safetensors")
        model = getattr(keras_vit, function)(classifier_activation=None)
        report = keras_vit.load_weights(model, folder / "model.safetensors")
        assert report.project == project and not report.unused
        expected = fixture(name)
        picture = images(int(expected["image_size"]))[:1]
        assert relative_error(np.asarray(model(picture)), expected["logits"][:1]) < 1e-4

    def test_hugging_face(self, name, function, tmp_path):
        converted = {"swin.encoder.layers.0.blocks.0.attention.self.relative_position_index": np.zeros(3, "int64")}
        for key, array in timm_weights(name).items():
            for pattern, replacement in HUGGING_FACE:
                key = re.sub(pattern, replacement, key)
            if "self.qkv." in key:
                for kind, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                    converted[key.replace("qkv", kind)] = rows
            else:
                converted[key] = array
        if function == "SwinV2_T":
            converted = {re.sub("^swin", "swinv2", key): array for key, array in converted.items()}
        self.check(name, function, converted, "Hugging Face", tmp_path)

    def test_the_authors_and_older_files_of_timm(self, name, function, tmp_path):
        converted = {"layers.0.blocks.1.attn_mask": np.zeros(3, "float32")}
        for key, array in timm_weights(name).items():
            key = re.sub(r"^layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key)
            converted[key.replace("head.fc", "head")] = array
        self.check(name, function, converted, "timm", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_t", "swinv2_t"])
def test_files_of_the_published_size(name, tmp_path):
    model = keras_vit.create_model(name, classifier_activation=None)
    randomize(model)
    pictures = np.random.default_rng(0).normal(size=(8, *model.input_shape[1:])).astype("float32")
    float32 = edge.export(model, tmp_path / "float32.tflite")
    quantized = edge.quantize_aware(model, calibration_data=pictures)
    hybrid = edge.export(quantized, tmp_path / "hybrid.tflite")
    for file in (float32, hybrid):
        audit = edge.audit(file)
        assert audit.partitions <= 2 and audit.findings == []
    assert edge.verify(model, float32, pictures[:2]).max_relative_error < 1e-4
    assert edge.verify(quantized, hybrid, pictures[:2]).snr_db > 28


def test_unit_norm_of_small_and_zero_vectors():
    x = np.array([[[[0.0, 0.0], [3e-6, 4e-6]]]], "float32")
    np.testing.assert_allclose(UnitNorm()(x), [[[[0, 0], [0.6, 0.8]]]], rtol=1e-5)


class TestBadInput:
    @both
    def test_a_window_that_is_larger_than_the_map(self, version):
        with pytest.raises(ValueError, match=r"first map, which has 8 x 8 pixels; received window=9.*36 x 36"):
            tiny(version, window=9)

    @both
    def test_a_window_of_nothing(self, version):
        with pytest.raises(ValueError, match=r"window must be a positive number.*received window=0"):
            tiny(version, window=0)

    @both
    def test_stages_without_heads(self, version):
        with pytest.raises(ValueError, match=r"a number for each stage.*num_heads=\(2,\)"):
            tiny(version, num_heads=(2,))

    @both
    def test_heads_that_do_not_divide_the_channels(self, version):
        with pytest.raises(ValueError, match="num_heads must divide channels; received num_heads=5, channels=12"):
            tiny(version, num_heads=(5, 3, 4))

    @both
    def test_a_pooling_that_the_family_has_not(self, version):
        with pytest.raises(ValueError, match="pooling must be 'avg', 'max' or None; received 'token'"):
            tiny(version, include_top=False, pooling="token")

    @pytest.mark.parametrize(("size", "nearest"), [((224, 256), "256 x 256"), ((250, 300), "256 x 256")])
    def test_images_whose_maps_the_window_does_not_divide(self, size, nearest):
        with pytest.raises(ValueError, match=f"images of {size[0]} x {size[1]} pixels do not fit window=8; {nearest}"):
            keras_vit.SwinV2_T(input_shape=(*size, 3))
        keras_vit.SwinV2(input_shape=(256, 512, 3), channels=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))

    @pytest.mark.parametrize(
        ("side", "message"), [(40, "10 x 10 pixels cannot be divided into windows of 4 x 4"), (12, "even")]
    )
    def test_version_2_is_not_resized_to_sizes_that_do_not_fit(self, side, message):
        with pytest.raises(ValueError, match=message):
            keras_vit.resize_model(tiny("SwinV2"), (side, side, 3))

    def test_windows_of_the_training_for_too_few_stages(self):
        with pytest.raises(ValueError, match=r"pretrained_windows.*each of the 3 stages; received \(4,\)"):
            tiny("SwinV2", pretrained_windows=(4,))

    def test_weights_of_the_other_version(self, tmp_path):
        save_file(timm_weights("swinv2_tiny_window8_256"), tmp_path / "v2.safetensors")
        with pytest.raises(ValueError, match="holds weights of another model"):
            keras_vit.Swin_T(weights=tmp_path / "v2.safetensors")
