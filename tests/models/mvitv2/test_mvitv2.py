"""MViTv2: costs, pooling, positions, outputs, weights, attention maps, sizes and errors."""

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.graph.flattening import leaves
from keras_vit.layers import DropPath, LayerNorm
from keras_vit.models.mvitv2.mvitv2_block import MViTv2Block
from keras_vit.models.mvitv2.pooling import HalvingMaxPooling, HeadwiseConv
from keras_vit.models.mvitv2.pooling_attention import PoolingAttention
from keras_vit.models.mvitv2.relative_scores import AddAxisScores, RelativeAxisScores
from tests.layers.test_layers import gelu
from tests.models.cases import build, images_of
from tests.models.files import check_files
from tests.reference import fixture, images, relative_error, timm_weights

# Trainable parameters, and multiply-accumulates of timm's models at 224 x 224.
COSTS = {
    "mvitv2_t": (24_173_320, 4_676_957_952),
    "mvitv2_s": (34_870_216, 6_959_715_072),
    "mvitv2_b": (51_472_744, 10_102_438_656),
    "mvitv2_l": (217_992_952, 43_711_209_216),
}
FIRST, SECOND = "mvitv2: channels double in attention", "mvitv2: channels double in MLPs"


def costs():
    """Yield the names of all sizes; most of them are compared only in the slow tests."""
    for name in COSTS:
        yield pytest.param(name, marks=[pytest.mark.slow] * (name not in ("mvitv2_t",)))


@pytest.mark.parametrize("name", costs())
def test_costs(name):
    info = keras_vit.model_info(name)
    assert (info["parameters"], info["macs"]) == COSTS[name]


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("mvitv2_*") == sorted(COSTS)


def weights_of(layer):
    return {v.path.split("/", 1)[-1]: np.asarray(v).astype("float64") for v in layer.weights}


def randomized(layer, shape):
    layer.build(shape)
    random = np.random.default_rng(3)
    for variable in layer.weights:
        variable.assign(random.normal(size=variable.shape) * 0.5)
    return layer


def norm(x, w, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * w[f"{name}/gamma"] + w[f"{name}/beta"]


def dense(x, w, name):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def pool(maps, kernel, strides):
    """Apply a 3 x 3 depthwise kernel (3, 3, channels) to a map (height, width, channels), pixel by pixel."""
    height, width, _ = maps.shape
    padded = np.pad(maps, ((1, 1), (1, 1), (0, 0)))
    rows, columns = range(0, height, strides), range(0, width, strides)
    return np.array([[(padded[i : i + 3, j : j + 3] * kernel).sum((0, 1)) for j in columns] for i in rows])


def maximum(maps):
    """Return the maxima of 3 x 3 pixels with strides of 2, of those that are in the map."""
    height, width, _ = maps.shape
    rows, columns = range(0, height, 2), range(0, width, 2)
    return np.array([[maps[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].max((0, 1)) for j in columns] for i in rows])


def attention(x, w, heads, query_strides, key_strides):
    """Compute pooling attention of a map (height, width, channels), query by query and key by key."""
    pooled = {}
    for name, strides in (("query", query_strides), ("key", key_strides), ("value", key_strides)):
        maps = dense(x, w, name)
        dim = maps.shape[-1] // heads
        of_heads = [
            norm(pool(part, w[f"{name}_pool/conv/kernel"][..., 0], strides), w, f"{name}_pool/norm")
            for part in np.split(maps, heads, axis=-1)
        ]
        pooled[name] = np.stack(of_heads)  # (heads, rows, columns, dim)
    _, rows, columns, _ = pooled["query"].shape
    _, key_rows, key_columns, _ = pooled["key"].shape

    def distance(query, key, queries, keys):
        """The row of the table, with positions of the smaller map scaled to those of the larger one."""
        of_query, of_key = max(keys / queries, 1), max(queries / keys, 1)
        return int(query * of_query - key * of_key + (keys - 1) * of_key)

    context = np.zeros((rows, columns, heads, dim))
    for head in range(heads):
        for i in range(rows):
            for j in range(columns):
                query = pooled["query"][head, i, j]
                scores = np.zeros((key_rows, key_columns))
                for k in range(key_rows):
                    for m in range(key_columns):
                        scores[k, m] = query @ pooled["key"][head, k, m] * dim**-0.5
                        scores[k, m] += query @ w["row_scores/table"][distance(i, k, rows, key_rows)]
                        scores[k, m] += query @ w["column_scores/table"][distance(j, m, columns, key_columns)]
                shares = np.exp(scores - scores.max())
                values = (shares / shares.sum())[..., None] * pooled["value"][head]
                context[i, j, head] = values.sum((0, 1)) + query
    return dense(context.reshape(rows, columns, -1), w, "projection")


@pytest.mark.parametrize(
    ("size", "query_strides", "key_strides"), [((4, 6), 1, 2), ((8, 6), 2, 1), ((5, 7), 2, 2), ((9, 7), 1, 4)]
)
def test_attention_computes_the_formula(size, query_strides, key_strides):
    layer = randomized(PoolingAttention(6, 2, size, query_strides, key_strides), (None, *size, 5))
    x = np.random.default_rng(1).normal(size=(1, *size, 5)).astype("float32")
    expected = attention(x[0].astype("float64"), weights_of(layer), 2, query_strides, key_strides)
    assert relative_error(np.asarray(layer(x))[0], expected) < 1e-5


@pytest.mark.parametrize(("attention_channels", "channels"), [(6, 6), (4, 6), (4, 4)])
def test_blocks_compute_the_formula(attention_channels, channels):
    """The residual connection projects the normalized map where the channels change."""
    size = (6, 7)
    layer = randomized(MViTv2Block(4, attention_channels, channels, 2, size, 2, 2, mlp_ratio=3), (None, *size, 4))
    x = np.random.default_rng(1).normal(size=(1, *size, 4)).astype("float32")
    w = weights_of(layer)
    of_attention = {
        name.removeprefix("attention/"): array for name, array in w.items() if name.startswith("attention/")
    }
    normed = norm(x[0].astype("float64"), w, "norm1")
    shortcut = x[0].astype("float64") if attention_channels == 4 else dense(normed, w, "shortcut1")
    y = maximum(shortcut) + attention(normed, of_attention, 2, 2, 2)
    normed = norm(y, w, "norm2")
    shortcut = y if channels == attention_channels else dense(normed, w, "shortcut2")
    expected = shortcut + dense(gelu(dense(normed, w, "mlp/expand")), w, "mlp/contract")
    assert relative_error(np.asarray(layer(x))[0], expected) < 1e-5


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 4)])
def test_maxima_leave_out_what_is_outside_the_map(size):
    x = -1 - np.random.default_rng(0).random((2, *size, 3), "float32")  # Zeros outside would be the maxima.
    expected = np.stack([maximum(image) for image in x])
    np.testing.assert_array_equal(HalvingMaxPooling()(x), expected)


class TestTheComparisonCanFail:
    """The comparison with the reference detects each mistake that does not change the number of parameters."""

    reference = "mvitv2_tiny"

    def loaded(self, scale, folder, change=None):
        arrays = timm_weights(self.reference, scale)
        if change is not None:
            change(arrays)
        save_file(arrays, folder / "weights.safetensors")
        model = keras_vit.MViTv2_T(classifier_activation=None)
        keras_vit.load_weights(model, folder / "weights.safetensors")
        return model

    def error(self, model, outputs):
        return relative_error(np.asarray(model(images(224)[:1], training=False)), fixture(self.reference)[outputs][:1])

    def test_epsilon(self, tmp_path):
        model = self.loaded(1 / 32, tmp_path)
        norms = [layer for _, layer in leaves(model) if isinstance(layer, LayerNorm)]
        assert len(norms) == 5 * 10 + 1 and {norm.epsilon for norm in norms} == {1e-6}
        for norm in norms:
            norm.epsilon = 1e-5
        assert self.error(model, "logits_small") > 1e-2

    @pytest.mark.parametrize(
        "names", [("rel_pos_h", "rel_pos_w"), pytest.param(("pool_k", "pool_v"), marks=pytest.mark.slow)]
    )
    def test_swapped_arrays(self, names, tmp_path):
        def swap(arrays):
            for first in [name for name in arrays if names[0] in name]:
                second = first.replace(*names)
                arrays[first], arrays[second] = arrays[second], arrays[first]

        assert self.error(self.loaded(3.0, tmp_path, swap), "logits_large") > 1e-3

    @pytest.mark.slow
    def test_no_residual_connection_of_the_queries(self, tmp_path, monkeypatch):
        model = self.loaded(1.0, tmp_path)
        for _, layer in leaves(model):
            if layer.name == "add_query":
                monkeypatch.setattr(layer, "call", lambda inputs: inputs[0])
        assert self.error(model, "logits") > 1e-2

    @pytest.mark.slow
    def test_a_residual_connection_of_the_map_before_the_norm(self, tmp_path, monkeypatch):
        model, maps = self.loaded(1.0, tmp_path), []
        block = model.get_layer("stage_1_block_0")
        norm, project = block.norm1.call, block.shortcut1.call
        monkeypatch.setattr(block.norm1, "call", lambda x: maps.append(x) or norm(x))
        monkeypatch.setattr(block.shortcut1, "call", lambda x, **_: project(maps[-1]))
        assert self.error(model, "logits") > 1e-3


def test_maps_of_every_stride_and_pooling():
    model = build(FIRST, include_top=False)
    pictures = images_of(model)
    maps = keras_vit.feature_extractor(model, "pyramid")(pictures)
    assert {name: array.shape for name, array in maps.items()} == {
        "stride_4": (3, 8, 6, 8),
        "stride_8": (3, 4, 3, 16),
    }
    last = np.asarray(model(pictures))
    assert last.shape == (3, 4, 3, 16)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = np.asarray(build(FIRST, include_top=False, pooling=pooling)(pictures))
        assert relative_error(pooled, reduce(last, axis=(1, 2))) < 1e-5


def test_rates_of_dropout_and_stochastic_depth():
    model = build(FIRST, drop_path_rate=0.3, dropout_rate=0.2, attention_dropout_rate=0.1)
    rates = [layer.rate for _, layer in leaves(model) if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates, np.repeat([0, 0.3], 2))
    block = model.get_layer("stage_1_block_0")
    assert block.attention.dropout.rate == block.mlp.dropout.rate == model.get_layer("dropout").rate == 0.2
    assert block.attention.attention_dropout.rate == 0.1


def test_fusing_leaves_depthwise_convolutions():
    fused = keras_vit.fuse(build(SECOND))
    kinds = [type(layer) for layer in fused.layers]
    assert not {HeadwiseConv, RelativeAxisScores} & set(kinds)
    assert kinds.count(keras.layers.DepthwiseConv2D) == 6
    kernel = np.asarray(fused.get_layer("stage_0_block_0.attention.key_pool.conv").kernel)
    np.testing.assert_array_equal(kernel[:, :, :4], kernel[:, :, 4:])  # Two heads.


def test_attention_maps_of_pooled_queries_and_keys():
    model = build(FIRST)
    pictures = images_of(model, 2)
    maps = keras_vit.attention_maps(model, pictures)
    # Queries and keys: 8 x 6 and 2 x 2 pixels, then 4 x 3 and 4 x 3.
    assert {name: array.shape for name, array in maps.items()} == {
        "stage_0_block_0": (2, 1, 48, 4),
        "stage_1_block_0": (2, 2, 12, 12),
    }
    for form in (model, keras_vit.fuse(model)):
        for name, array in keras_vit.attention_maps(form, pictures).items():
            np.testing.assert_allclose(array.sum(-1), 1, atol=1e-5)
            np.testing.assert_allclose(array, maps[name], atol=1e-5)


def linear(table, rows):
    """Resize a table along its first axis by linear interpolation with half-pixel centers."""
    at = np.clip((np.arange(rows) + 0.5) * len(table) / rows - 0.5, 0, len(table) - 1)
    low = np.minimum(np.floor(at).astype(int), len(table) - 2)
    return table[low] * (1 - (at - low))[:, None] + table[low + 1] * (at - low)[:, None]


class TestOtherSizes:
    def test_a_trained_model_takes_images_of_another_size(self):
        model = build(FIRST)
        resized = keras_vit.resize_model(model, (40, 24, 3))  # The maps are 10 x 6 and 5 x 3.
        assert np.all(np.isfinite(resized(np.ones((1, 40, 24, 3), "float32"))))
        for name, rows in (("row_scores", 9), ("column_scores", 5)):
            before, after = (
                np.asarray(getattr(m.get_layer("stage_1_block_0").attention, name).table) for m in (model, resized)
            )
            assert len(after) == rows
            np.testing.assert_allclose(after, linear(before, rows), atol=1e-6)

    def test_a_checkpoint_of_another_image_size(self, tmp_path):
        save_file(timm_weights("mvitv2_tiny"), tmp_path / "model.safetensors")
        model = keras_vit.MViTv2_T(input_shape=(160, 224, 3))
        report = keras_vit.load_weights(model, tmp_path / "model.safetensors")
        assert report.resized == [
            f"stage_{i}_block_{j}.attention.row_scores/table"
            for i, depth in enumerate((1, 2, 5, 2))
            for j in range(depth)
        ]
        assert not report.unused and not report.left_as_it_was


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("mvitv2_t", "mvitv2_tiny", tmp_path)


class TestBadInput:
    def test_heads_that_do_not_divide_the_channels(self):
        with pytest.raises(ValueError, match="num_heads must divide channels; received num_heads=3, channels=8"):
            build(FIRST, num_heads=3)

    @pytest.mark.parametrize("depths", [(), (1, 0)])
    def test_stages_without_blocks(self, depths):
        with pytest.raises(ValueError, match="depths must be a positive number of blocks for each stage; received"):
            build(FIRST, depths=depths)

    def test_a_pooling_that_the_family_has_not(self):
        with pytest.raises(ValueError, match="pooling must be 'avg', 'max' or None; received 'token'"):
            build(FIRST, include_top=False, pooling="token")

    def test_a_map_of_another_size(self):
        with pytest.raises(
            ValueError, match=r"expects \(batch, 8, 6, channels\); received the shape \(None, 6, 8, 4\)"
        ):
            PoolingAttention(4, 1, (8, 6)).build((None, 6, 8, 4))

    def test_queries_of_another_size(self):
        with pytest.raises(ValueError, match=r"RelativeAxisScores expects \(batch, 4, count, head width\)"):
            RelativeAxisScores(4, 2).build((None, 5, 3, 2))

    def test_scores_keep_their_shape(self):
        shapes = [(2, 3, 8, 6), (2, 3, 8, 2), (2, 3, 8, 3)]
        scores, rows, columns = (np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes))
        expected = scores.reshape(2, 3, 8, 2, 3) + rows[..., None] + columns[..., None, :]
        given = AddAxisScores((2, 3))(*(array.astype("float32") for array in (scores, rows, columns)))
        np.testing.assert_allclose(given, expected.reshape(scores.shape), atol=1e-5)
