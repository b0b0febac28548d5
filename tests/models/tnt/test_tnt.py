"""TNT: costs, layers against their formulas, outputs, weights, other image sizes, files and errors."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.layers import DropPath
from keras_vit.models.tnt.pixel_embedding import PixelConvolution
from keras_vit.models.tnt.tnt_block import PixelAttention, TNTBlock
from keras_vit.training.optimizers.factory import layer_depths
from tests.layers.test_layers import attention, four_taps, mlp, norm, part, randomized, weights
from tests.models.cases import IMAGES, build
from tests.models.files import check_files
from tests.models.test_reference import logits
from tests.models.tnt.forms import PIXELS, TINY
from tests.reference import SCALES, fixture, images, relative_error, timm_file, timm_weights

QUICK = ("tnt_s",)
COSTS = {"tnt_s": (23_768_584, 5_216_875_008), "tnt_b": (65_428_680, 14_049_082_880)}
PICTURES = np.random.default_rng(0).normal(size=(2, *TINY["input_shape"])).astype("float32")


def tiny(**settings):
    return build("tnt: TNT", **settings)


def marked(names):
    """Yield the names; the largest models are left to the slow tests."""
    for name in names:
        yield pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", marked(COSTS))
def test_costs(name):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == COSTS[name]


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("tnt*") == sorted(COSTS)


@pytest.mark.parametrize(("patch", "strides"), [(4, 2), (4, 3), (4, 4)])
def test_each_patch_is_convolved_by_itself(patch, strides):
    layer = randomized(PixelConvolution(5, patch, strides), IMAGES)
    w = weights(layer)
    kernel, side = w["kernel"], -(-patch // strides)
    expected = np.zeros((2, 8 // patch, 12 // patch, side * side, 5))
    for row in range(8 // patch):
        for column in range(12 // patch):
            pixels = IMAGES[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            padded = np.pad(pixels, ((0, 0), (3, 3), (3, 3), (0, 0)))
            for i in range(side):
                for j in range(side):
                    seen = padded[:, i * strides : i * strides + 7, j * strides : j * strides + 7]
                    expected[:, row, column, i * side + j] = np.tensordot(seen, kernel, 3)
    expected = expected + w["bias"] + w["positions"]
    np.testing.assert_allclose(layer(IMAGES), expected.reshape(2, 8 // patch, 12 // patch, -1), atol=1e-4)


def test_attention_between_the_pixels_of_a_patch():
    layer = randomized(PixelAttention(6, 3), PIXELS)
    w = weights(layer)
    expected = np.stack([attention(PIXELS[:, patch], w, 3) for patch in range(3)], axis=1)
    np.testing.assert_allclose(layer(PIXELS), expected, atol=1e-4)


def test_a_block_against_its_formula():
    layer = TNTBlock(6, 12, 2, 3, mlp_ratio=2)
    random = np.random.default_rng(3)
    patches, pixels = (random.normal(size=size).astype("float32") for size in ((2, 4, 12), (2, 3, 30)))
    layer(patches, pixels)
    for variable in layer.trainable_weights:
        variable.assign(random.normal(size=variable.shape) * 0.5)
    w = weights(layer)

    def normed(x, name):
        return norm(x, 1e-5) * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def transformer(x, name, heads):
        x = x + attention(normed(x, f"{name}/norm1"), part(w, f"{name}/attention"), heads)
        return x + mlp(normed(x, f"{name}/norm2"), part(w, f"{name}/mlp"))

    inner = np.stack([transformer(p, "inner", 2) for p in pixels.reshape(2, 3, 5, 6).swapaxes(0, 1)], axis=1)
    expected_pixels = inner.reshape(2, 3, 30)
    projected = normed(normed(expected_pixels, "patch_norm1") @ w["patch_projection/kernel"], "patch_norm2")
    expected = transformer(np.concatenate([patches[:, :1], patches[:, 1:] + projected], axis=1), "outer", 3)
    given, given_pixels = layer(patches, pixels)
    np.testing.assert_allclose(given_pixels, expected_pixels, atol=1e-4)
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_stochastic_depth_between_pixels_drops_branches_of_single_patches():
    drop = DropPath(0.5, seed=1, leading_axes=2)
    kept = np.asarray(drop(np.ones((50, 40, 3, 2), "float32"), training=True))
    assert np.all(kept == kept[:, :, :1, :1]) and set(np.unique(kept)) == {0.0, 2.0}
    assert 0.1 < np.mean(kept[0, :, 0, 0] == 0) < 0.9 and np.mean(kept) == pytest.approx(1, abs=0.1)
    block = tiny(drop_path_rate=0.2).get_layer("block_1")
    assert [path.leading_axes for path in (block.inner.drop_path1, block.outer.drop_path1)] == [2, 1]
    assert {path.rate for path in (block.inner.drop_path2, block.outer.drop_path2)} == {0.2}


class TestAChangedDetailDoesNotPassTheComparison:
    reference = "tnt_s_patch16_224"

    def error(self, model, outputs, folder, change=None):
        arrays = timm_weights(self.reference, SCALES[outputs])
        if change is not None:
            change(arrays)
        save_file(arrays, folder / "weights.safetensors")
        keras_vit.load_weights(model, folder / "weights.safetensors")
        return relative_error(logits(model), fixture(self.reference)[outputs])

    def test_the_epsilon(self, tmp_path):
        model = keras_vit.TNT_S(classifier_activation=None, epsilon=1e-6)
        assert self.error(model, "logits_small", tmp_path) > 1e-3

    @pytest.mark.slow
    def test_positions_of_pixels_column_by_column(self, tmp_path):
        def transpose(arrays):
            arrays["pixel_pos"] = np.ascontiguousarray(arrays["pixel_pos"].swapaxes(2, 3))

        model = keras_vit.TNT_S(classifier_activation=None)
        assert self.error(model, "logits", tmp_path, transpose) > 1e-3

    @pytest.mark.slow
    def test_a_convolution_over_the_borders_of_patches(self, tmp_path, monkeypatch):
        """timm's older model convolves the whole image."""
        from keras import ops

        def whole(layer, images):
            padded = ops.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)))
            maps = ops.conv(padded, layer.kernel, strides=4, padding="valid") + layer.bias
            patches = ops.reshape(maps, (-1, 14, 4, 14, 4, layer.pixel_width))
            patches = ops.reshape(ops.transpose(patches, (0, 1, 3, 2, 4, 5)), (-1, 14, 14, 16, layer.pixel_width))
            return ops.reshape(patches + layer.positions, (-1, 14, 14, 16 * layer.pixel_width))

        monkeypatch.setattr(PixelConvolution, "call", whole)
        model = keras_vit.TNT_S(classifier_activation=None)
        assert self.error(model, "logits", tmp_path) > 1e-2


def test_names_of_the_authors(tmp_path):
    replacements = [
        ("pixel_embed", "patch_embed"),
        ("norm1_proj", "proj_norm1"),
        ("norm2_proj", "proj_norm2"),
        ("norm_mlp_in", "inner_norm2"),
        ("norm_in", "inner_norm1"),
        ("attn_in", "inner_attn"),
        ("mlp_in", "inner_mlp"),
        ("norm_out", "outer_norm1"),
        ("attn_out", "outer_attn"),
        ("norm_mlp", "outer_norm2"),
        (".mlp.", ".outer_mlp."),
        ("patch_pos", "outer_pos"),
    ]
    arrays = {"outer_tokens": np.zeros((1, 196, 384), "float32")}
    for name, array in timm_weights("tnt_s_patch16_224").items():
        for timm, authors in replacements:
            name = name.replace(timm, authors)
        if name == "pixel_pos":
            name, array = "inner_pos", np.ascontiguousarray(array.reshape(1, 24, 16).transpose(0, 2, 1))
        arrays[name] = array
    save_file(arrays, tmp_path / "model.safetensors")
    model = keras_vit.TNT_S(classifier_activation=None)
    report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
    assert report.project == "huawei-noah/Efficient-AI-Backbones"
    error = relative_error(np.asarray(model(images(224)[:1])), fixture("tnt_s_patch16_224")["logits"][:1])
    assert error < 1e-4


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 7, 24)), ("token", (None, 24)), ("avg", (None, 24))])
def test_without_the_top(pooling, shape):
    model, tokens = (tiny(include_top=False, pooling=each) for each in (pooling, None))
    assert model.output_shape == shape
    expected = np.asarray(tokens(PICTURES))
    expected = {None: expected, "token": expected[:, 0], "avg": expected[:, 1:].mean(1)}[pooling]
    np.testing.assert_allclose(model(PICTURES), expected, atol=1e-5)


def test_features_and_attention_between_patches():
    model = tiny()
    features = keras_vit.feature_extractor(model)(PICTURES)
    assert {name: map.shape for name, map in features.items()} == dict.fromkeys(("block_0", "block_1"), (2, 3, 2, 24))
    for form in (model, keras_vit.fuse(model)):
        maps = keras_vit.attention_maps(form, PICTURES)
        assert {name: map.shape for name, map in maps.items()} == dict.fromkeys(("block_0", "block_1"), (2, 3, 7, 7))
    assert keras_vit.attention_rollout(model, PICTURES).shape == (2, 3, 2)


def test_fusing_leaves_one_convolution_over_patches():
    fused = keras_vit.fuse(tiny())
    assert not [layer for layer in fused.layers if isinstance(layer, PixelConvolution)]


def test_learning_rates_by_depth():
    model = tiny()
    depths = {v.path: depth for v, depth in zip(model.trainable_variables, layer_depths(model), strict=True)}
    assert depths["patch_embedding/projection/kernel"] == depths["patch_projection/kernel"] == 0
    assert depths["block_0/inner/mlp/expand/kernel"] == 1 and depths["block_1/outer/mlp/expand/kernel"] == 2
    assert depths["head/kernel"] == 3


class TestAnotherImageSize:
    def expected(self, table, old, new):
        grid = np.asarray(table)[0, 1:].reshape(*old, -1)
        grid = four_taps(four_taps(grid, new[0]).swapaxes(0, 1), new[1]).swapaxes(0, 1)
        return np.concatenate([np.asarray(table)[:, :1], grid.reshape(1, -1, grid.shape[-1])], axis=1)

    def test_of_a_trained_model(self):
        model = tiny()
        resized = keras_vit.resize_model(model, (40, 24, 3))
        expected = self.expected(model.get_layer("position_embedding").table, (3, 2), (5, 3))
        np.testing.assert_allclose(resized.get_layer("position_embedding").table, expected, atol=1e-5)

    def test_of_a_checkpoint(self, tmp_path):
        model = keras_vit.TNT_S(input_shape=(256, 192, 3))
        report = keras_vit.load_weights(model, timm_file("tnt_s_patch16_224", tmp_path))
        assert report.resized == ["position_embedding/table"]
        expected = self.expected(timm_weights("tnt_s_patch16_224")["patch_pos"], (14, 14), (16, 12))
        np.testing.assert_allclose(model.get_layer("position_embedding").table, expected, atol=1e-5)


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("tnt_s", "tnt_s_patch16_224", tmp_path)


class TestBadInput:
    def test_an_image_size_that_is_not_a_multiple_of_the_patch(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 16 x 16; 224 x 224 would do"):
            keras_vit.TNT_S(input_shape=(225, 224, 3))

    @pytest.mark.parametrize(("heads", "width"), [({"num_heads": 5}, 24), ({"pixel_heads": 5}, 6)])
    def test_heads_that_do_not_divide_the_width(self, heads, width):
        with pytest.raises(ValueError, match=f"num_heads=5 and width={width}"):
            tiny(**heads)

    def test_strides_of_nothing(self):
        with pytest.raises(ValueError, match="patch_size and strides must be positive; received 8 and 0"):
            tiny(strides=0)

    def test_pooling(self):
        with pytest.raises(ValueError, match="pooling must be 'token', 'avg' or None; received 'map'"):
            tiny(include_top=False, pooling="map")

    def test_pixels_of_another_number_of_patches(self):
        with pytest.raises(ValueError, match=r"as many patches.*\(2, 4, 12\) and \(2, 4, 30\)"):
            TNTBlock(6, 12, 2, 3)(np.zeros((2, 4, 12), "float32"), np.zeros((2, 4, 30), "float32"))

    def test_weights_of_the_older_model_of_timm(self, tmp_path):
        """It normalizes pixels, not patches, before the projection."""
        arrays = timm_weights("tnt_s_patch16_224")
        for block in range(12):
            arrays[f"blocks.{block}.norm1_proj.weight"] = np.ones(24, "float32")
        save_file(arrays, tmp_path / "legacy.safetensors")
        with pytest.raises(ValueError, match=r"norm1.*\(24,\)"):
            keras_vit.TNT_S(weights=tmp_path / "legacy.safetensors")
