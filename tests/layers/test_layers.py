"""Each layer against NumPy written from its published formula, under whichever backend Keras runs."""

import math

import keras
import numpy as np
import pytest

from keras_vit import layers
from tests.models.cases import IMAGES, TOKENS, families, forms_of

rng = np.random.default_rng(0)

# Every public layer with the input it takes, and then the layers of each family, as its forms list them.
CASES = [
    (layers.PatchEmbedding, {"width": 7, "patch_size": (4, 3)}, IMAGES),
    (layers.ClassToken, {"stddev": 0.02}, TOKENS),
    (layers.RegisterTokens, {"count": 3, "after": 1}, TOKENS),
    (layers.PositionEmbedding, {"grid": (2, 2), "resizing": "cubic"}, TOKENS),
    (layers.PositionEmbedding, {"grid": (2, 2), "kind": "sincos2d"}, TOKENS),
    (layers.LayerNorm, {"epsilon": 1e-3, "affine": False}, TOKENS),
    (layers.MultiHeadSelfAttention, {"width": 12, "num_heads": 3, "qkv_bias": False}, TOKENS),
    (layers.MLP, {"width": 12, "mlp_dim": 20, "activation": "gelu_tanh"}, TOKENS),
    (layers.GELU, {}, TOKENS),
    (layers.AttentionSoftmax, {}, TOKENS),
    (layers.LayerScale, {"init": 0.5}, TOKENS),
    (layers.Scale, {"factor": 0.25}, TOKENS),
    (layers.Affine, {}, TOKENS),
    (layers.DropPath, {"rate": 0.5, "seed": 3}, TOKENS),
    (layers.TokenPooling, {"index": 1}, TOKENS),
    (
        layers.TransformerBlock,
        {"width": 12, "num_heads": 2, "mlp_dim": 24, "layer_scale": 0.1, "drop_path_rate": 0.2},
        TOKENS,
    ),
    (layers.MBConv, {"input_channels": 3, "channels": 3, "expansion": 2, "drop_path_rate": 0.2}, IMAGES),
    (layers.MBConv, {"input_channels": 3, "channels": 5, "strides": 2}, IMAGES),
    (layers.Unfold, {}, IMAGES),
    (layers.Fold, {"height": 2, "width": 4}, np.repeat(TOKENS, 8, axis=1)[:, :8]),
    (layers.Resize, {"height": 5, "width": 13}, IMAGES),
    (layers.ResizeToEven, {}, IMAGES[:, 1:, 3:]),
    (layers.GroupNorm, {"epsilon": 1e-3}, TOKENS),
    (layers.RMSNorm, {"epsilon": 1e-3}, TOKENS),
    (layers.MBConv, {"channels": 5, "input_channels": 3, "strides": 2, "fewer_norm": True}, IMAGES),
    *(case for family in families() for case in forms_of(family).LAYERS),
]


def randomized(layer, inputs):
    """Build a layer and give it random weights, which do not depend on the tests that ran before."""
    random = np.random.default_rng(0)
    layer(inputs)
    for variable in layer.trainable_weights:
        variable.assign(random.normal(size=variable.shape) * 0.5)
    return layer


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def weights(layer):
    return {variable.path.split("/", 1)[-1]: numpy(variable) for variable in layer.weights}


def part(w, prefix):
    return {name.removeprefix(f"{prefix}/"): value for name, value in w.items() if name.startswith(f"{prefix}/")}


def mlp(x, w):
    return gelu(x @ w["expand/kernel"] + w["expand/bias"]) @ w["contract/kernel"] + w["contract/bias"]


def norm(x, epsilon=1e-6):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(x, w, heads, queries=None):
    head_dim = x.shape[-1] // heads
    queries = x if queries is None else queries
    outputs = np.zeros_like(queries)
    q = queries @ w["query/kernel"] + w.get("query/bias", 0)
    k, v = (x @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0) for name in ("key", "value"))
    for head in range(heads):
        part = slice(head * head_dim, (head + 1) * head_dim)
        scores = np.einsum("bnd,bmd->bnm", q[..., part], k[..., part]) / math.sqrt(head_dim)
        exponentials = np.exp(scores - scores.max(-1, keepdims=True))
        outputs[..., part] = exponentials / exponentials.sum(-1, keepdims=True) @ v[..., part]
    return outputs @ w["projection/kernel"] + w["projection/bias"]


@pytest.mark.parametrize(("layer", "settings", "inputs"), CASES, ids=lambda case: getattr(case, "__name__", ""))
class TestEveryLayer:
    def test_config_round_trip(self, layer, settings, inputs):
        first = randomized(layer(**settings), inputs)
        second = layer.from_config(first.get_config())
        assert second.get_config() == first.get_config()
        second(inputs)
        second.set_weights(first.get_weights())
        np.testing.assert_array_equal(numpy(second(inputs)), numpy(first(inputs)))

    def test_shape_is_known_before_it_runs(self, layer, settings, inputs):
        known = layer(**settings).compute_output_shape((None, *inputs.shape[1:]))
        symbolic = layer(**settings)(keras.Input(inputs.shape[1:]))
        assert tuple(known) == tuple(symbolic.shape) == (None, *layer(**settings)(inputs).shape[1:])

    def test_saves_within_a_model(self, layer, settings, inputs, tmp_path):
        image = keras.Input(inputs.shape[1:])
        model = keras.Model(image, layer(**settings)(image))
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(numpy(loaded(inputs)), numpy(model(inputs)))

    def test_mixed_precision_stays_near(self, layer, settings, inputs):
        full = randomized(layer(**settings), inputs)
        mixed = layer(**settings, dtype="mixed_bfloat16")
        mixed(inputs)
        mixed.set_weights(full.get_weights())
        result = numpy(keras.ops.cast(mixed(inputs), "float32"))
        assert np.max(np.abs(result - numpy(full(inputs)))) < 0.05 * max(1, np.max(np.abs(result)))


def test_patch_embedding():
    layer = randomized(layers.PatchEmbedding(7, (4, 3)), IMAGES)
    w = weights(layer)
    patches = IMAGES.reshape(2, 2, 4, 4, 3, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 8, -1)
    expected = patches @ w["projection/kernel"].reshape(-1, 7) + w["projection/bias"]
    np.testing.assert_allclose(numpy(layer(IMAGES)), expected, atol=1e-5)


def test_class_token_comes_first():
    layer = randomized(layers.ClassToken(), TOKENS)
    outputs = numpy(layer(TOKENS))
    np.testing.assert_array_equal(outputs[:, 1:], TOKENS)
    np.testing.assert_array_equal(outputs[:, 0], np.repeat(weights(layer)["token"][:, 0], 2, axis=0))


@pytest.mark.parametrize("after", [0, 1])
def test_registers_stand_behind_the_class_token(after):
    layer = randomized(layers.RegisterTokens(3, after), TOKENS)
    outputs = numpy(layer(TOKENS))
    np.testing.assert_array_equal(outputs[:, :after], TOKENS[:, :after])
    np.testing.assert_array_equal(outputs[:, after : after + 3], np.repeat(weights(layer)["tokens"], 2, axis=0))
    np.testing.assert_array_equal(outputs[:, after + 3 :], TOKENS[:, after:])


def test_registers_start_unequal():
    layer = layers.RegisterTokens(2)
    layer(TOKENS)
    assert not np.array_equal(numpy(layer.tokens)[0, 0], numpy(layer.tokens)[0, 1])


def test_token_pooling():
    np.testing.assert_array_equal(numpy(layers.TokenPooling(2)(TOKENS)), TOKENS[:, 2])


class TestPositionEmbedding:
    def test_adds_its_table(self):
        layer = randomized(layers.PositionEmbedding((2, 2)), TOKENS)
        np.testing.assert_allclose(numpy(layer(TOKENS)), TOKENS + weights(layer)["table"], atol=1e-6)

    @pytest.mark.parametrize(("kind", "last_step"), [("sincos2d", 2), ("sincos2d_mae", 3)])
    def test_fixed_tables_from_the_formula(self, kind, last_step):
        rows, columns, dim = 2, 3, 12
        table = layers.sincos_positions((rows, columns), dim, kind)
        for row in range(rows):
            for column in range(columns):
                for i in range(3):
                    frequency = 1 / 10000 ** (i / last_step)
                    expected = [f(at * frequency) for at in (column, row) for f in (math.sin, math.cos)]
                    found = table[0, row * columns + column, i::3]
                    np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_a_fixed_table_leaves_the_class_token_alone_and_is_not_trained(self):
        layer = layers.PositionEmbedding((2, 2), "sincos2d")
        outputs = numpy(layer(TOKENS))
        np.testing.assert_array_equal(outputs[:, 0], TOKENS[:, 0])
        expected = TOKENS[:, 1:] + layers.sincos_positions((2, 2), 12)
        np.testing.assert_allclose(outputs[:, 1:], expected, atol=1e-6)
        assert not layer.trainable_weights

    def test_refuses_fewer_tokens_than_patches(self):
        with pytest.raises(ValueError, match="6 or more for its grid"):
            layers.PositionEmbedding((2, 3))(TOKENS)

    def test_refuses_an_unknown_kind(self):
        with pytest.raises(ValueError, match="received kind='rotary'"):
            layers.PositionEmbedding((2, 2), "rotary")

    def test_refuses_a_width_without_room_for_the_four_waves(self):
        with pytest.raises(ValueError, match="multiple of 4 and 8 or more for fixed positions; received width=4"):
            layers.sincos_positions((2, 2), 4)


def test_layer_norm():
    layer = randomized(layers.LayerNorm(), TOKENS)
    w = weights(layer)
    np.testing.assert_allclose(numpy(layer(TOKENS)), norm(TOKENS) * w["gamma"] + w["beta"], atol=1e-5)


def test_layer_norm_computes_in_float32():
    # In float16 the square of 300 overflows.
    large = np.float16(TOKENS * 300)
    outputs = numpy(layers.LayerNorm(dtype="float16")(large))
    assert outputs.dtype == np.float16
    np.testing.assert_allclose(outputs, norm(large.astype("float32")), atol=5e-3)


def test_attention():
    layer = randomized(layers.MultiHeadSelfAttention(12, 3), TOKENS)
    np.testing.assert_allclose(numpy(layer(TOKENS)), attention(TOKENS, weights(layer), 3), atol=1e-4)


def test_attention_within_groups():
    tokens = np.concatenate([TOKENS, TOKENS[:, :1]], axis=1)
    layer = randomized(layers.MultiHeadSelfAttention(12, 3, groups=2), tokens)
    expected = np.zeros_like(tokens)
    for group in range(2):
        expected[:, group::2] = attention(tokens[:, group::2], weights(layer), 3)
    np.testing.assert_allclose(numpy(layer(tokens)), expected, atol=1e-4)


def test_gelu_and_its_gradient():
    x = np.linspace(-8, 8, 101, dtype="float32")[None]
    model = keras.Sequential([layers.LayerScale(1), layers.GELU()])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda _, outputs: keras.ops.sum(outputs))
    loss = model.train_on_batch(x, x)
    np.testing.assert_allclose(loss, gelu(x).sum(), rtol=1e-6)
    cumulative = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    gamma = model.layers[0].gamma
    np.testing.assert_allclose(1 - numpy(gamma), (x * (cumulative + x * density))[0], atol=1e-5)
    np.testing.assert_allclose(numpy(model(x)), gelu(x * numpy(gamma)), atol=1e-5)


def test_mlp():
    layer = randomized(layers.MLP(12, 20), TOKENS)
    np.testing.assert_allclose(numpy(layer(TOKENS)), mlp(TOKENS, weights(layer)), atol=1e-4)


def test_transformer_block():
    layer = randomized(layers.TransformerBlock(12, 2, 24, layer_scale=0.1), TOKENS)
    w = weights(layer)
    x = norm(TOKENS) * w["norm1/gamma"] + w["norm1/beta"]
    x = TOKENS + attention(x, part(w, "attention"), 2) * w["layer_scale1/gamma"]
    y = mlp(norm(x) * w["norm2/gamma"] + w["norm2/beta"], part(w, "mlp"))
    np.testing.assert_allclose(numpy(layer(TOKENS)), x + y * w["layer_scale2/gamma"], atol=2e-4)


@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul(transpose_b):
    a, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 5, 6))
    given = np.swapaxes(b, -1, -2) if transpose_b else b
    layer = layers.MatMul(transpose_b)
    assert layer.compute_output_shape(a.shape, given.shape) == (2, 3, 4, 6)
    assert layers.MatMul.from_config(layer.get_config()).transpose_b == transpose_b
    np.testing.assert_allclose(numpy(layer(a.astype("float32"), given.astype("float32"))), a @ b, atol=1e-5)


class TestDropPath:
    inputs = np.ones((4000, 2, 3), "float32")

    def test_drops_whole_samples_and_keeps_the_mean(self):
        outputs = numpy(layers.DropPath(0.25, seed=1)(self.inputs, training=True))
        assert np.all((outputs == outputs[:, :1, :1]).all())
        np.testing.assert_allclose(np.unique(outputs), [0, 1 / 0.75], rtol=1e-6)
        assert abs(outputs.mean() - 1) < 0.05

    def test_does_nothing_in_inference(self):
        np.testing.assert_array_equal(numpy(layers.DropPath(0.9)(self.inputs)), self.inputs)

    def test_differs_from_call_to_call(self):
        layer = layers.DropPath(0.5, seed=1)
        first, second = (numpy(layer(self.inputs, training=True)) for _ in range(2))
        assert not np.array_equal(first, second)

    def test_refuses_a_rate_of_one(self):
        with pytest.raises(ValueError, match=r"received rate=1\.0"):
            layers.DropPath(1.0)


def four_taps(values, new):
    """Keys' cubic convolution with a = -0.75 along the first axis, half-pixel centres, the edges repeated."""
    a, old = -0.75, len(values)
    resized = []
    for index in range(new):
        at = (index + 0.5) * old / new - 0.5
        base = math.floor(at)
        total = 0
        for tap in range(base - 1, base + 3):
            d = abs(at - tap)
            weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
            total = total + weight * values[min(max(tap, 0), old - 1)]
        resized.append(total)
    return np.stack(resized)


class TestResizePositions:
    table = rng.normal(size=(1, 1 + 12, 5))

    @pytest.mark.parametrize(
        ("old", "new"), [((3, 4), (7, 6)), ((14, 14), (24, 24)), ((14, 14), (15, 20)), ((24, 24), (14, 14))]
    )
    @pytest.mark.parametrize("method", ["linear", "cubic"])
    def test_against_the_definition(self, method, old, new):
        from scipy.ndimage import zoom

        table = rng.normal(size=(1, 1 + old[0] * old[1], 5))
        resized = layers.resize_positions(table, old, new, method)
        patches = table[0, 1:].reshape(*old, 5)
        if method == "linear":
            expected = zoom(patches, (new[0] / old[0], new[1] / old[1], 1), order=1)
        else:
            expected = four_taps(four_taps(patches, new[0]).swapaxes(0, 1), new[1]).swapaxes(0, 1)
        np.testing.assert_allclose(resized[0, 1:].reshape(*new, 5), expected, atol=1e-12)
        np.testing.assert_array_equal(resized[:, 0], table[:, 0])

    def test_refuses_a_grid_that_does_not_fit(self):
        with pytest.raises(ValueError, match="13 rows is too small for a grid of 4 x 4"):
            layers.resize_positions(self.table, (4, 4), (8, 8))

    def test_refuses_an_unknown_method(self):
        with pytest.raises(ValueError, match="'nearest'"):
            layers.resize_positions(self.table, (3, 4), (8, 8), "nearest")


def test_attention_needs_a_fixed_number_of_tokens():
    with pytest.raises(ValueError, match="fixed number of tokens"):
        layers.MultiHeadSelfAttention(12, 3)(keras.Input((None, 12)))


def test_tokens_that_do_not_fall_into_groups():
    with pytest.raises(ValueError, match="multiple of groups=4; received 5 tokens"):
        layers.MultiHeadSelfAttention(12, 3, groups=4)(TOKENS)


def test_patch_size_must_be_positive():
    with pytest.raises(ValueError, match="patch_size"):
        layers.PatchEmbedding(8, 0)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_attention_to_a_single_token_is_no_cause_for_a_warning(dtype, recwarn):
    tokens = keras.Input((1, 12))
    model = keras.Model(tokens, layers.MultiHeadSelfAttention(12, 3, dtype=dtype)(tokens))
    model(np.ones((2, 1, 12)))
    keras.layers.Activation("softmax")(np.ones((2, 1)))
    # Keras warns of a softmax over one number, but only of the user's own.
    assert [str(warning.message).split(".")[0] for warning in recwarn] == [
        "You are using a softmax over axis -1 of a tensor of shape (2, 1)"
    ]
