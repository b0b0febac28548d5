"""T2T-ViT: costs, soft splits, attention between them, positions, outputs, weights and errors."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge
from keras_vit.graph.flattening import leaves
from keras_vit.layers import LayerNorm
from keras_vit.models.t2t import performer
from keras_vit.models.t2t.performer import PerformerAttention
from keras_vit.models.t2t.sinusoid_positions import SinusoidPositions
from keras_vit.models.t2t.soft_split import SoftSplit
from keras_vit.models.t2t.tokens_to_token import TokenPerformer, TokensToToken, TokenTransformer
from keras_vit.training.optimizers.factory import layer_depths
from tests.layers.test_layers import gelu
from tests.models.cases import build, images_of
from tests.models.files import check_files
from tests.reference import fixture, images, relative_error, timm_weights

# All parameters, those of them that are fixed (positions and random matrices), and the multiply-accumulates that the
# authors publish, in billions.
_MATRICES = 2 * 32 * 64
COSTS = {
    "t2t_7": (4_310_222, 197 * 256 + _MATRICES, 1.1),
    "t2t_10": (5_889_230, 197 * 256 + _MATRICES, 1.5),
    "t2t_12": (6_941_902, 197 * 256 + _MATRICES, 1.8),
    "t2t_14": (21_545_550, 197 * 384 + _MATRICES, 4.8),
    "t2t_19": (39_177_422, 197 * 448 + _MATRICES, 8.5),
    "t2t_24": (64_105_934, 197 * 512 + _MATRICES, 13.8),
    "t2t_t_14": (21_541_070, 197 * 384, 6.1),
    "t2t_t_19": (39_172_942, 197 * 448, 9.8),
    "t2t_t_24": (64_101_454, 197 * 512, 15.0),
}


def costs():
    """Yield the names of all sizes; most of them are compared only in the slow tests."""
    for name in COSTS:
        yield pytest.param(name, marks=[pytest.mark.slow] * (name not in ("t2t_7", "t2t_t_14")))


@pytest.mark.parametrize("name", costs())
def test_costs(name):
    """`parameters` are those that are trained."""
    info = keras_vit.model_info(name)
    whole, fixed, macs = COSTS[name]
    assert info["parameters"] + fixed == whole and info["macs"] / 1e9 == pytest.approx(macs, rel=0.06)


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("t2t_*") == sorted(COSTS)


def test_the_fixed_tensors_are_weights():
    model = build("t2t: performer")
    fixed = {variable.path for variable in model.weights} - {variable.path for variable in model.trainable_weights}
    matrices = {f"tokens_to_token/projection/attention{number}/attention/random_matrix" for number in (1, 2)}
    assert fixed == {"position_embedding/table", *matrices}


def weights_of(layer):
    return {v.path.split("/", 1)[-1]: np.asarray(v).astype("float64") for v in layer.weights}


def randomized(layer, *shapes):
    layer.build(*shapes)
    random = np.random.default_rng(3)
    for variable in layer.weights:
        variable.assign(random.normal(size=variable.shape) * 0.4)
    return layer


@pytest.mark.parametrize(("kernel_size", "strides"), [(7, 4), (3, 2), (5, 3), (4, 4)])
def test_a_soft_split_joins_the_pixels_of_each_patch(kernel_size, strides):
    sides = [(count - 1 - (-kernel_size // strides)) * strides for count in (3, 5)]
    x = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype("float32")
    expected = np.array(
        [
            [
                [image[i : i + kernel_size, j : j + kernel_size].ravel() for j in range(0, 5 * strides, strides)]
                for i in range(0, 3 * strides, strides)
            ]
            for image in x
        ]
    )
    np.testing.assert_array_equal(SoftSplit(kernel_size, strides)(x), expected)


def features(x, matrix):
    """Return positive random features of vectors, one by one."""
    return np.array([[np.exp(w @ v - v @ v / 2) / np.sqrt(len(matrix)) for w in matrix] for v in x])


def performer_attention(x, values, w):
    keys, queries = (
        features(x @ w[f"{name}_kernel"] + w[f"{name}_bias"], w["random_matrix"]) for name in ("key", "query")
    )
    shares = queries @ keys.T
    return shares @ values / (shares.sum(1, keepdims=True) + 1e-8)


def norm(x, w, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * w[f"{name}/gamma"] + w[f"{name}/beta"]


def tail(values, context, w):
    x = values + context @ w["projection/kernel"] + w["projection/bias"]
    hidden = gelu(norm(x, w, "norm2") @ w["mlp/expand/kernel"] + w["mlp/expand/bias"])
    return x + hidden @ w["mlp/contract/kernel"] + w["mlp/contract/bias"]


MAPS = np.random.default_rng(0).normal(size=(1, 3, 4, 6)).astype("float32")


def test_the_performer_computes_its_formula():
    layer = randomized(TokenPerformer(4, 6), MAPS.shape)
    w = weights_of(layer)
    normed = norm(MAPS.reshape(12, 6).astype("float64"), w, "norm1")
    values = normed @ w["value/kernel"] + w["value/bias"]
    of_attention = {name.removeprefix("attention/"): array for name, array in w.items()}
    expected = tail(values, performer_attention(normed, values, of_attention), w)
    assert relative_error(np.asarray(layer(MAPS)).reshape(12, 4), expected) < 1e-5


def test_the_transformer_computes_its_formula():
    """Its scores are divided by the square root of the input's width."""
    layer = randomized(TokenTransformer(4, 6), MAPS.shape)
    w = weights_of(layer)
    normed = norm(MAPS.reshape(12, 6).astype("float64"), w, "norm1")
    query, key, values = (normed @ w[f"{name}/kernel"] for name in ("query", "key", "value"))
    shares = np.exp(query @ key.T * 6**-0.5)
    expected = tail(values, shares / shares.sum(1, keepdims=True) @ values, w)
    assert relative_error(np.asarray(layer(MAPS)).reshape(12, 4), expected) < 1e-5


def test_the_features_approximate_the_kernel_of_the_softmax():
    """With many features and a matrix of normal numbers, products of features are exponentials of products."""
    layer = PerformerAttention(4, 20_000)
    x = np.random.default_rng(1).normal(size=(1, 3, 4)).astype("float32") * 0.5
    layer.build(x.shape, x.shape)
    layer.query_kernel.assign(np.eye(4))
    layer.key_kernel.assign(np.eye(4))
    layer.random_matrix.assign(np.random.default_rng(2).normal(size=(20_000, 4)))
    shares = np.exp(x[0] @ x[0].T)
    expected = shares / shares.sum(1, keepdims=True) @ x[0]
    assert relative_error(np.asarray(layer(x, x))[0], expected) < 0.05


def test_positions_are_those_of_the_authors():
    expected = fixture("t2t_vit_7")["pos_embed_of_the_authors"]
    table = np.asarray(keras_vit.T2T_7(include_top=False).get_layer("position_embedding").table)
    np.testing.assert_allclose(table[0, :4, :8], expected, atol=1e-6)


def test_random_matrices_have_orthogonal_rows():
    layer = PerformerAttention(8, 4)
    layer.build((None, 5, 12), (None, 5, 8))
    matrix = np.asarray(layer.random_matrix)
    np.testing.assert_allclose(matrix @ matrix.T, 4 * np.eye(4), atol=1e-5)


class TestTheComparisonCanFail:
    """The comparison with the reference detects each mistake that does not change the number of parameters."""

    reference = "t2t_vit_7"
    scales = {"logits": 1.0, "logits_small": 1 / 32, "logits_large": 3.0}

    def loaded(self, folder, outputs="logits", change=None):
        arrays = timm_weights(self.reference, self.scales[outputs])
        if change is not None:
            change(arrays)
        save_file(arrays, folder / "weights.safetensors")
        model = keras_vit.T2T_7(classifier_activation=None)
        keras_vit.load_weights(model, folder / "weights.safetensors")
        return model

    def error(self, model, outputs="logits"):
        return relative_error(np.asarray(model(images(224)[:1], training=False)), fixture(self.reference)[outputs][:1])

    def test_epsilon_of_the_norms(self, tmp_path):
        model = self.loaded(tmp_path, "logits_small")
        norms = [layer for _, layer in leaves(model) if isinstance(layer, LayerNorm)]
        assert len(norms) == 2 * 2 + 2 * 7 + 1 and {norm.epsilon for norm in norms} == {1e-5}
        for norm in norms:
            norm.epsilon = 1e-6
        assert self.error(model, "logits_small") > 1e-2

    def test_epsilon_of_the_performer(self, tmp_path, monkeypatch):
        model = self.loaded(tmp_path)
        monkeypatch.setattr(performer, "_EPSILON", 1e-7)
        assert self.error(model) > 1e-4

    @pytest.mark.parametrize("name", ["pos_embed", "tokens_to_token.attention1.w"])
    def test_fixed_tensors_of_another_checkpoint(self, name, tmp_path):
        def flip(arrays):
            arrays[name] = np.ascontiguousarray(np.flip(arrays[name], axis=-2))
            arrays[name][..., 0] *= -1

        assert self.error(self.loaded(tmp_path, change=flip)) > 1e-4

    def test_the_order_of_keys_and_queries(self, tmp_path):
        def swap(arrays):
            for name in [name for name in arrays if ".kqv." in name]:
                key, query, value = np.split(arrays[name], 3)
                arrays[name] = np.concatenate([query, key, value])

        assert self.error(self.loaded(tmp_path, change=swap)) > 1e-4

    @pytest.mark.slow
    def test_the_scale_of_the_transformer(self, tmp_path, monkeypatch):
        self.reference = "t2t_vit_t_14"
        save_file(timm_weights(self.reference), tmp_path / "weights.safetensors")
        model = keras_vit.T2T_t_14(classifier_activation=None)
        keras_vit.load_weights(model, tmp_path / "weights.safetensors")
        for name in ("attention1", "attention2"):
            scale = getattr(model.get_layer("tokens_to_token").projection, name).scale
            monkeypatch.setattr(scale, "factor", 64**-0.5)
        assert self.error(model) > 1e-4


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 7, 16)), ("token", (None, 16)), ("avg", (None, 16))])
def test_without_the_top(pooling, shape):
    model = build("t2t: performer", include_top=False, pooling=pooling)
    tokens = build("t2t: performer", include_top=False)
    assert model.output_shape == shape
    expected = np.asarray(tokens(images_of(model)))
    expected = {None: expected, "token": expected[:, 0], "avg": expected[:, 1:].mean(1)}[pooling]
    np.testing.assert_allclose(model(images_of(model)), expected, atol=1e-5)


def test_features_and_attention():
    model = build("t2t: performer")
    features = keras_vit.feature_extractor(model)(images_of(model))
    assert {name: map.shape for name, map in features.items()} == {"block_0": (3, 3, 2, 16)}
    maps = keras_vit.attention_maps(model, images_of(model))
    assert {name: map.shape for name, map in maps.items()} == {"block_0": (3, 2, 7, 7)}
    assert keras_vit.attention_rollout(model, images_of(model)).shape == (3, 3, 2)


def test_attention_between_the_soft_splits():
    model = build("t2t: transformer")
    maps = keras_vit.attention_maps(model, images_of(model))
    assert [map.shape for map in maps.values()] == [(3, 1, 96, 96), (3, 1, 24, 24), (3, 2, 7, 7)]
    assert all(np.allclose(map.sum(-1), 1, atol=1e-5) for map in maps.values())


def test_rates_of_dropout_and_stochastic_depth():
    model = build("t2t: performer", depth=2, drop_path_rate=0.2, dropout_rate=0.3, token_dropout_rate=0.1)
    assert [model.get_layer(f"block_{i}").drop_path1.rate for i in (0, 1)] == [0, 0.2]
    assert model.get_layer("dropout").rate == model.get_layer("block_0").mlp.dropout.rate == 0.3
    tokens = model.get_layer("tokens_to_token").projection
    assert {getattr(tokens.attention2, f"dropout{number}").rate for number in (1, 2)} == {0.1}


class TestOtherSizes:
    def test_a_trained_model_takes_images_of_another_size(self):
        model = build("t2t: performer")
        resized = keras_vit.resize_model(model, (64, 64, 3))
        assert np.all(np.isfinite(resized(np.ones((1, 64, 64, 3), "float32"))))
        tables = [np.asarray(m.get_layer("position_embedding").table) for m in (model, resized)]
        expected = keras_vit.layers.resize_positions(tables[0], (3, 2), (4, 4), "cubic")
        np.testing.assert_allclose(tables[1], expected, atol=1e-6)
        assert not resized.get_layer("position_embedding").trainable_weights

    def test_a_checkpoint_of_another_image_size(self, tmp_path):
        save_file(timm_weights("t2t_vit_7"), tmp_path / "model.safetensors")
        report = keras_vit.load_weights(keras_vit.T2T_7(input_shape=(160, 160, 3)), tmp_path / "model.safetensors")
        assert report.resized == ["position_embedding/table"] and not report.unused


def test_depths_of_layers_begin_with_the_first_block():
    model = build("t2t: performer")
    depths = dict(zip([v.path for v in model.trainable_variables], layer_depths(model), strict=True))
    assert {depth for path, depth in depths.items() if path.startswith(("tokens_to_token", "class_token"))} == {0}
    for name, expected in (("block_0", 1), ("head", 2)):
        assert {depth for path, depth in depths.items() if path.startswith(f"{name}/")} == {expected}


def test_the_performer_stays_in_float():
    model = build("t2t: performer")
    pictures = images_of(model, 4)
    quantized = edge.quantize_aware(model, calibration_data=pictures)
    kinds = [type(layer) for layer in quantized.layers]
    assert kinds.count(PerformerAttention) == 2
    names = {layer.name for layer in quantized.layers if type(layer).__name__ == "QuantizedDense"}
    assert "tokens_to_token.projection.attention1.value" in names


def test_a_checkpoint_without_a_random_matrix(tmp_path):
    arrays = timm_weights("t2t_vit_7")
    del arrays["tokens_to_token.attention2.w"]
    save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"tokens_to_token.attention2.w is missing from the file"):
        keras_vit.load_weights(keras_vit.T2T_7(), tmp_path / "model.safetensors")


def test_the_names_of_fixed_tensors_are_those_of_the_fixture():
    assert json.loads(str(fixture("t2t_vit_t_14")["non_trainable"])) == ["pos_embed"]


@pytest.mark.slow
def test_the_files_of_a_published_size(tmp_path):
    check_files("t2t_7", "t2t_vit_7", tmp_path)


class TestBadInput:
    def test_an_image_size_that_is_not_a_multiple_of_the_patch(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 16 x 16; 224 x 224 would do"):
            keras_vit.T2T_7(input_shape=(225, 224, 3))

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(ValueError, match="num_heads=3 and width=16"):
            build("t2t: performer", num_heads=3)

    @pytest.mark.parametrize("token_width", [0, 7])
    def test_an_odd_width_between_the_soft_splits(self, token_width):
        with pytest.raises(ValueError, match=f"positive even number; received token_width={token_width}"):
            build("t2t: performer", token_width=token_width)

    def test_attention_that_there_is_not(self):
        with pytest.raises(ValueError, match="tokens_attention must be 'performer' or 'transformer'; received 'conv'"):
            build("t2t: performer", tokens_attention="conv")

    def test_pooling(self):
        with pytest.raises(ValueError, match="pooling must be 'token', 'avg' or None; received 'max'"):
            build("t2t: performer", pooling="max")

    def test_a_map_that_cannot_be_split(self):
        with pytest.raises(
            ValueError, match=r"multiples of strides=4 and at least 8; received the shape \(2, 9, 8, 3\)"
        ):
            SoftSplit(7, 4).build((2, 9, 8, 3))

    def test_tokens_of_another_width(self):
        with pytest.raises(
            ValueError, match=r"expects \(batch, rows, columns, 6\); received the shape \(None, 3, 4, 5\)"
        ):
            TokenPerformer(4, 6).build((None, 3, 4, 5))

    def test_images_with_other_channels(self):
        with pytest.raises(ValueError, match=r"expects \(batch, rows, columns, 147\)"):
            TokensToToken(8, channels=3).build((None, 32, 32, 1))

    def test_positions_for_too_few_tokens(self):
        with pytest.raises(ValueError, match="6 or more for its grid"):
            SinusoidPositions((2, 3)).build((None, 5, 8))
