"""NAT and DiNAT: costs, neighborhoods, outputs, weights, attention maps, sizes and export."""

import re

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import keras_vit
from keras_vit.graph.flattening import leaves
from keras_vit.layers import DropPath, LayerNorm
from keras_vit.models.nat.nat_block import ConvDownsampler
from keras_vit.models.nat.neighborhood_attention import NeighborhoodAttention
from keras_vit.models.nat.neighborhood_bias import NeighborhoodBias, RelativeNeighborhoodBias
from tests.models.cases import build, images_of
from tests.models.files import check_files
from tests.reference import fixture, images, relative_error, timm_weights

# Trainable parameters, and the multiply-accumulates that the authors publish, in billions. They leave out the products
# that a mask discards.
COSTS = {
    "nat_mini": (19_984_174, 2.7),
    "nat_tiny": (27_901_582, 4.3),
    "nat_small": (50_719_681 + 23_616, 7.8),  # With LayerScale, unlike DiNAT-Small.
    "nat_base": (89_769_652, 13.7),
    "dinat_mini": (19_984_174, 2.7),
    "dinat_tiny": (27_901_582, 4.3),
    "dinat_small": (50_719_681, 7.8),
    "dinat_base": (89_769_652, 13.7),
    "dinat_large": (200_943_514, 30.6),
}


def costs():
    """Yield the names of all sizes; most of them are compared only in the slow tests."""
    for name in COSTS:
        yield pytest.param(name, marks=[pytest.mark.slow] * (name not in ("nat_mini", "nat_small", "dinat_base")))


@pytest.mark.parametrize("name", costs())
def test_costs(name):
    info = keras_vit.model_info(name)
    parameters, macs = COSTS[name]
    assert info["parameters"] == parameters and 0.96 < info["macs"] / 1e9 / macs < 1.2


def test_every_variant_has_its_costs():
    assert sorted(keras_vit.list_models("nat_*") + keras_vit.list_models("dinat_*")) == sorted(COSTS)


def neighborhood(pixel, side, kernel_size, dilation):
    """Return the pixels of an axis that a pixel attends to, by the definition in NATTEN."""
    first = pixel % dilation
    members = list(range(first, side, dilation))
    start = members.index(pixel) - kernel_size // 2
    start = max(0, min(start, len(members) - kernel_size))
    return members[start : start + kernel_size]


def attention(x, w, heads, kernel_size, dilation):
    """Compute neighborhood attention of one map (height, width, channels), pixel by pixel."""
    height, width, channels = x.shape
    padded = [max(side, kernel_size * dilation) for side in (height, width)]
    maps = np.zeros((*padded, channels))
    maps[:height, :width] = x
    query, key, value = (
        (maps @ w[f"{name}/kernel"] + w[f"{name}/bias"]).reshape(*padded, heads, -1)
        for name in ("query", "key", "value")
    )
    table = w["bias/table"].reshape(2 * kernel_size - 1, 2 * kernel_size - 1, heads)
    context = np.zeros((height, width, channels))
    for i in range(height):
        rows = np.array(neighborhood(i, padded[0], kernel_size, dilation))
        for j in range(width):
            columns = np.array(neighborhood(j, padded[1], kernel_size, dilation))
            at = np.ix_(rows, columns)
            scores = np.einsum("hd,rchd->rch", query[i, j], key[at]) * (channels // heads) ** -0.5
            scores += table[
                np.ix_((rows - i) // dilation + kernel_size - 1, (columns - j) // dilation + kernel_size - 1)
            ]
            shares = np.exp(scores - scores.max((0, 1)))
            context[i, j] = np.einsum("rch,rchd->hd", shares / shares.sum((0, 1)), value[at]).ravel()
    return context @ w["projection/kernel"] + w["projection/bias"]


def weights_of(layer):
    return {"/".join(v.path.split("/")[-2:]): np.asarray(v).astype("float64") for v in layer.weights}


def randomized(layer, shape, seed=3):
    layer.build(shape)
    random = np.random.default_rng(seed)
    for variable in layer.weights:
        variable.assign(random.normal(size=variable.shape) * 0.5)
    return layer


# The size of a map, the kernel size and the dilation. Sides are odd and even, multiples of the dilation and not.
SIZES = [
    ((9, 11), 3, 1),
    ((13, 8), 5, 1),
    ((15, 16), 7, 1),
    ((9, 12), 9, 1),
    ((12, 13), 11, 1),
    ((9, 11), 3, 2),
    ((11, 17), 5, 2),
    ((10, 13), 3, 3),
    ((17, 15), 3, 4),
    ((15, 19), 3, 5),
    ((18, 23), 3, 6),
    ((21, 22), 3, 7),
    ((24, 29), 3, 8),
    ((5, 4), 7, 1),  # Smaller than a neighborhood.
    ((7, 14), 3, 4),
]


@pytest.mark.parametrize("block", [None, (2, 3), (5, 4)])
@pytest.mark.parametrize(("size", "kernel_size", "dilation"), SIZES)
def test_attention_computes_the_definition(size, kernel_size, dilation, block):
    layer = NeighborhoodAttention(6, 2, size, kernel_size, dilation, block=block)
    randomized(layer, (None, *size, 6))
    x = np.random.default_rng(1).normal(size=(2, *size, 6)).astype("float32")
    expected = np.stack(
        [attention(image, weights_of(layer), 2, kernel_size, dilation) for image in x.astype("float64")]
    )
    assert relative_error(np.asarray(layer(x)), expected) < 1e-5


@pytest.mark.parametrize(("size", "kernel_size", "dilation"), [((9, 7), 3, 1), ((7, 9), 3, 2), ((4, 5), 5, 1)])
def test_gradients_are_those_of_the_definition(size, kernel_size, dilation):
    """The derivative in a random direction of the input and all weights, from the definition by central differences."""
    layer = randomized(NeighborhoodAttention(6, 2, size, kernel_size, dilation, block=(2, 3)), (None, *size, 6))
    random = np.random.default_rng(1)
    x = random.normal(size=(1, *size, 6))
    factors = random.normal(size=(1, *size, 6))
    w = weights_of(layer)
    names = ["/".join(v.path.split("/")[-2:]) for v in layer.weights]
    directions = {name: random.normal(size=array.shape) for name, array in {**w, "x": x}.items()}

    def loss(step):
        moved = {name: array + step * directions[name] for name, array in w.items()}
        return np.sum(factors[0] * attention(x[0] + step * directions["x"][0], moved, 2, kernel_size, dilation))

    expected = (loss(1e-5) - loss(-1e-5)) / 2e-5
    inputs = tf.constant(x.astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = tf.reduce_sum(layer(inputs) * factors.astype("float32"))
    gradients = tape.gradient(value, [inputs, *(v.value for v in layer.trainable_weights)])
    gradients = map(tf.convert_to_tensor, gradients)  # That of a table has its rows apart.
    given = [np.sum(np.asarray(g) * directions[name]) for g, name in zip(gradients, ["x", *names], strict=True)]
    assert len(given) == 10 and abs(sum(given) - expected) < 1e-5 * np.sum(np.abs(given))


def test_the_memory_is_linear_in_the_number_of_pixels():
    small, large = (NeighborhoodAttention(8, 1, (side, side), 7).neighborhoods for side in (56, 224))
    pairs = [known.count * np.prod(known.block) * np.prod(known.reach) for known in (small, large)]
    assert pairs[1] == 16 * pairs[0] and large.reach == small.reach


class TestTheComparisonCanFail:
    """Each detail of the models counts in the comparison with the reference outputs."""

    def loaded(self, name, scale, folder, change=None):
        arrays = timm_weights(name, scale)
        if change is not None:
            arrays = change(arrays)
        save_file(arrays, folder / "weights.safetensors")
        model = keras_vit.create_model(name, classifier_activation=None)
        keras_vit.load_weights(model, folder / "weights.safetensors")
        return model

    def error(self, model, name, outputs):
        return relative_error(np.asarray(model(images(224)[:1], training=False)), fixture(name)[outputs][:1])

    def test_epsilon(self, tmp_path):
        model = self.loaded("nat_mini", 1 / 32, tmp_path)
        norms = [layer for _, layer in leaves(model) if isinstance(layer, LayerNorm)]
        assert len(norms) == 1 + 2 * 18 + 3 + 1 and {norm.epsilon for norm in norms} == {1e-5}
        for norm in norms:
            norm.epsilon = 1e-6
        assert self.error(model, "nat_mini", "logits_small") > 1e-3

    def test_dilations(self, tmp_path):
        """The weights of DiNAT-Mini fit NAT-Mini, which gives another output."""
        save_file(timm_weights("dinat_mini"), tmp_path / "weights.safetensors")
        model = keras_vit.NAT_Mini(classifier_activation=None)
        keras_vit.load_weights(model, tmp_path / "weights.safetensors")
        assert self.error(model, "dinat_mini", "logits") > 1e-2

    @pytest.mark.slow
    def test_rows_and_columns_of_the_position_biases(self, tmp_path):
        def transposed(arrays):
            return {
                name: np.ascontiguousarray(array.transpose(0, 2, 1)) if name.endswith("rpb") else array
                for name, array in arrays.items()
            }

        assert self.error(self.loaded("nat_mini", 1.0, tmp_path, transposed), "nat_mini", "logits") > 1e-3

    @pytest.mark.slow
    def test_neighborhoods_that_end_at_the_border(self, tmp_path, monkeypatch):
        """A pixel at the border has as many neighbors as any other."""
        from keras_vit.models.nat.neighborhoods import Neighborhoods

        model = self.loaded("nat_mini", 1.0, tmp_path)
        whole = Neighborhoods.mask.func

        def cut(known):
            mask = whole(known)
            far = np.stack([np.abs(axis.distances) > known.kernel_size // 2 for axis in known._axes][::-1])
            outside = far[1][:, None, :, None] | far[0][None, :, None, :]
            return np.where(outside.reshape(1, -1), -(2.0**15), 0 if mask is None else mask).astype("float32")

        monkeypatch.setattr(Neighborhoods, "mask", property(cut))
        assert self.error(model, "nat_mini", "logits") > 1e-2


def test_maps_of_every_stride_and_pooling():
    model = build("nat: NAT", include_top=False)
    pictures = images_of(model)
    maps = keras_vit.feature_extractor(model, "pyramid")(pictures)
    assert {name: array.shape for name, array in maps.items()} == {
        "stride_4": (3, 8, 8, 12),
        "stride_8": (3, 4, 4, 24),
    }
    last = np.asarray(model(pictures))
    assert last.shape == (3, 4, 4, 24)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = np.asarray(build("nat: NAT", include_top=False, pooling=pooling)(pictures))
        assert relative_error(pooled, reduce(last, axis=(1, 2))) < 1e-5


def test_rates_of_dropout_and_stochastic_depth():
    model = build("nat: NAT", drop_path_rate=0.3, dropout_rate=0.2, attention_dropout_rate=0.1)
    rates = [layer.rate for _, layer in leaves(model) if isinstance(layer, DropPath)]
    np.testing.assert_allclose(rates, np.repeat([0, 0.3], 2))
    block = model.get_layer("stage_1_block_0")
    assert block.attention.dropout.rate == block.mlp.dropout.rate == 0.2
    assert model.get_layer("tokenizer_dropout").rate == model.get_layer("dropout").rate == 0.2
    assert block.attention.attention_dropout.rate == 0.1


def test_every_second_block_is_dilated():
    model = keras_vit.DiNAT_Mini(include_top=False)
    for stage, (dilation, depth) in enumerate(zip((8, 4, 2, 1), (3, 4, 6, 5), strict=True)):
        found = [model.get_layer(f"stage_{stage}_block_{j}").settings["dilation"] for j in range(depth)]
        assert found == [dilation if j % 2 else 1 for j in range(depth)]


def test_fusing_makes_bias_and_mask_a_constant():
    model = build("nat: DiNAT")
    fused = keras_vit.fuse(model)
    kinds = [type(layer) for layer in fused.layers]
    assert RelativeNeighborhoodBias not in kinds and kinds.count(NeighborhoodBias) == 4
    norms = [layer for layer in fused.layers if isinstance(layer, LayerNorm) and "block" in layer.name]
    assert len(norms) == 8 and not any(norm.affine for norm in norms if "norm2" in norm.name)


class TestAttentionMaps:
    def test_a_pixel_attends_to_its_neighborhood(self):
        model = build("nat: DiNAT")
        pictures = images_of(model, 2)
        maps = keras_vit.attention_maps(model, pictures)
        assert {name: array.shape for name, array in maps.items()} == {
            **{f"stage_0_block_{j}": (2, 2, 63, 63) for j in (0, 1)},
            **{f"stage_1_block_{j}": (2, 3, 20, 20) for j in (0, 1)},
        }
        for name, (height, width), dilation in (("stage_0_block_0", (9, 7), 1), ("stage_0_block_1", (9, 7), 2)):
            np.testing.assert_allclose(maps[name].sum(-1), 1, atol=1e-5)
            for i in range(height):
                for j in range(width):
                    expected = np.zeros((height, width), bool)
                    expected[np.ix_(neighborhood(i, height, 3, dilation), neighborhood(j, width, 3, dilation))] = True
                    assert np.array_equal(maps[name][0, 0, i * width + j] > 0, expected.ravel())
        for name, array in keras_vit.attention_maps(keras_vit.fuse(model), pictures).items():
            np.testing.assert_allclose(array, maps[name], atol=1e-5)

    def test_attention_explains_the_output(self):
        model = build("nat: DiNAT")
        attention, picture = model.get_layer("stage_0_block_1").attention, images_of(model, 1)
        maps = keras_vit.attention_maps(model, picture)["stage_0_block_1"][0]
        block = model.get_layer("stage_0_block_1")
        normed = block.norm1(keras_vit.feature_extractor(model, "stage_0_block_0")(picture)["stage_0_block_0"])
        tokens = np.asarray(attention.value(normed)).reshape(63, 2, 6).transpose(1, 0, 2)
        context = (maps @ tokens).transpose(1, 0, 2).reshape(1, 9, 7, 12)
        np.testing.assert_allclose(attention.projection(context), attention(normed), atol=1e-5)


class TestOtherSizes:
    def test_another_image_size(self):
        """No weight depends on the image size."""
        model = build("nat: DiNAT")
        resized, fresh = keras_vit.resize_model(model, (24, 40, 3)), build("nat: DiNAT", input_shape=(24, 40, 3))
        pictures = images_of(fresh)
        np.testing.assert_allclose(resized(pictures), fresh(pictures), atol=1e-5)

    def test_position_biases_of_another_kernel_size_are_resized(self, tmp_path):
        model = build("nat: NAT")
        save_file(authors_names(model), tmp_path / "kernel3.safetensors")
        other = build("nat: NAT", kernel_size=5)
        report = keras_vit.load_weights(other, tmp_path / "kernel3.safetensors")
        assert len(report.resized) == 2 and not report.unused
        before, after = (np.asarray(m.get_layer("stage_0_block_0").attention.bias.table) for m in (model, other))
        assert before.shape == (25, 2) and after.shape == (81, 2)
        # In the middle row and column, the resized table has the middle of the other one.
        np.testing.assert_allclose(after[40], before[12], atol=1e-5)

    def test_a_table_that_is_not_of_a_square_neighborhood(self, tmp_path):
        arrays = authors_names(build("nat: NAT"))
        name = "levels.0.blocks.0.attn.rpb"
        arrays[name] = np.ascontiguousarray(arrays[name][:, :4])
        save_file(arrays, tmp_path / "odd.safetensors")
        with pytest.raises(ValueError, match=r"has 20 rows, .* square neighborhood: \(2 \* kernel_size - 1\)"):
            keras_vit.load_weights(build("nat: NAT"), tmp_path / "odd.safetensors")


def authors_names(model):
    """Return the weights of a model under the authors' names, in PyTorch's layout."""
    named = {}
    for leaf, layer in leaves(model):
        for variable in layer.weights:
            array, name = np.asarray(variable), leaf
            name = re.sub(r"^stage_(\d)_block_(\d)\.", r"levels.\1.blocks.\2.", name)
            name = re.sub(r"^stage_(\d)_downsample", lambda found: f"levels.{int(found[1]) - 1}.downsample", name)
            for ours, theirs in (
                ("tokenizer.conv_0.conv", "patch_embed.proj.0"),
                ("tokenizer.conv_1.conv", "patch_embed.proj.1"),
                ("tokenizer", "patch_embed"),
                ("reduction.conv", "reduction"),
                ("attention.projection", "attn.proj"),
                ("attention.bias", "attn.rpb"),
                ("mlp.expand", "mlp.fc1"),
                ("mlp.contract", "mlp.fc2"),
                ("layer_scale", "gamma"),
            ):
                name = name.replace(ours, theirs)
            if variable.name == "kernel":
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            if variable.name == "table":
                side = round(len(array) ** 0.5)
                array = array.T.reshape(-1, side, side)
            plain = variable.name == "table" or "gamma" in name
            suffix = {"kernel": ".weight", "gamma": ".weight", "bias": ".bias", "beta": ".bias"}.get(variable.name)
            named[name if plain else name + suffix] = array
    for name in [name for name in named if ".attention.query." in name]:
        parts = [named.pop(name.replace("query", kind)) for kind in ("query", "key", "value")]
        named[name.replace("attention.query", "attn.qkv")] = np.concatenate(parts)
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


HUGGING_FACE = [
    (r"^patch_embed\.proj", "nat.embeddings.patch_embeddings.projection"),
    (r"^patch_embed\.norm", "nat.embeddings.norm"),
    (r"^levels\.(\d)\.blocks", r"nat.encoder.levels.\1.layers"),
    (r"^levels\.", "nat.encoder.levels."),
    (r"norm1", "layernorm_before"),
    (r"norm2", "layernorm_after"),
    (r"attn\.proj", "attention.output.dense"),
    (r"attn\.", "attention.self."),
    (r"mlp\.fc1", "intermediate.dense"),
    (r"mlp\.fc2", "output.dense"),
    (r"^norm\.", "nat.layernorm."),
    (r"^head", "classifier"),
]


@pytest.mark.parametrize("model_name", ["nat", "dinat"])
def test_names_of_hugging_face(model_name, tmp_path):
    model = build("nat: DiNAT")
    arrays, converted = authors_names(model), {}
    for key, array in arrays.items():
        for pattern, replacement in HUGGING_FACE:
            key = re.sub(pattern, replacement, key)
        key = re.sub(r"^nat\.", f"{model_name}.", key)
        if "self.qkv." in key:
            for kind, rows in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                converted[key.replace("qkv", kind)] = np.ascontiguousarray(rows)
        elif key.endswith("gamma1"):
            other = arrays[next(name for name in arrays if arrays[name] is array).replace("gamma1", "gamma2")]
            converted[key.replace("gamma1", "layer_scale_parameters")] = np.stack([array, other])
        elif not key.endswith("gamma2"):
            converted[key] = array
    save_file(converted, tmp_path / "model.safetensors")
    other = build("nat: DiNAT")
    for variable in other.weights:
        variable.assign(np.zeros(variable.shape))
    report = keras_vit.load_weights(other, tmp_path / "model.safetensors")
    assert report.project == "Hugging Face" and not report.unused
    np.testing.assert_allclose(other(images_of(model)), model(images_of(model)), atol=1e-6)


def test_the_downsampler_convolves_with_symmetric_padding():
    x = np.random.default_rng(0).normal(size=(1, 6, 8, 2)).astype("float32")
    layer = randomized(ConvDownsampler(4), x.shape)
    w = weights_of(layer)
    padded = np.pad(x.astype("float64"), ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + 6 : 2, j : j + 8 : 2] @ w["conv/kernel"][i, j] for i in range(3) for j in range(3)]
    expected = sum(taps)
    expected = (expected - expected.mean(-1, keepdims=True)) / np.sqrt(expected.var(-1, keepdims=True) + 1e-5)
    assert relative_error(np.asarray(layer(x)), expected * w["norm/gamma"] + w["norm/beta"]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nat_mini", "dinat_mini"])
def test_the_files_of_a_published_size(name, tmp_path):
    check_files(name, name, tmp_path)


class TestBadInput:
    @pytest.mark.parametrize("kernel_size", [4, 1, -3])
    def test_a_kernel_size_without_a_middle(self, kernel_size):
        with pytest.raises(ValueError, match=f"odd number of 3 or more; received kernel_size={kernel_size}"):
            build("nat: NAT", kernel_size=kernel_size)

    def test_no_dilation_for_some_stages(self):
        with pytest.raises(ValueError, match=r"a number for each stage.*dilations=\(2,\)"):
            build("nat: NAT", dilations=(2,))

    def test_a_dilation_of_nothing(self):
        with pytest.raises(ValueError, match="dilation must be a positive number; received dilation=0"):
            build("nat: NAT", dilations=(0, 1), depths=(2, 2))

    def test_stages_without_heads(self):
        with pytest.raises(ValueError, match=r"a number for each stage.*num_heads=\(2,\)"):
            build("nat: NAT", num_heads=(2,))

    def test_heads_that_do_not_divide_the_channels(self):
        with pytest.raises(ValueError, match="num_heads must divide channels; received num_heads=5, channels=12"):
            build("nat: NAT", num_heads=(5, 3))

    def test_channels_that_the_tokenizer_cannot_halve(self):
        with pytest.raises(ValueError, match=r"channels must be an even number.*received channels=9"):
            build("nat: NAT", channels=9)

    def test_a_pooling_that_the_family_has_not(self):
        with pytest.raises(ValueError, match="pooling must be 'avg', 'max' or None; received 'token'"):
            build("nat: NAT", include_top=False, pooling="token")

    def test_scores_of_another_size(self):
        layer = NeighborhoodAttention(6, 2, (8, 8), 3)
        with pytest.raises(ValueError, match=r"2 heads and \d+ blocks expects .* received the shape \(None, 2, 3, 4\)"):
            layer.bias.build((None, 2, 3, 4))

    def test_a_map_of_another_size(self):
        with pytest.raises(ValueError, match=r"expects \(batch, 8, 8, 6\); received the shape \(None, 9, 8, 6\)"):
            NeighborhoodAttention(6, 2, (8, 8), 3).build((None, 9, 8, 6))
