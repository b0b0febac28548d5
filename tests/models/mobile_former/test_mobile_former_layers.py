"""The layers of Mobile-Former against NumPy code from the paper's formulas and the reference code's additions."""

import math

import keras
import numpy as np
import pytest

from keras_vit import layers
from keras_vit.models.mobile_former.channel_shuffle import ChannelShuffle
from keras_vit.models.mobile_former.dynamic_relu import DynamicReLU
from keras_vit.models.mobile_former.former import Former
from keras_vit.models.mobile_former.former_to_mobile import FormerToMobile
from keras_vit.models.mobile_former.hard_sigmoid import HardSigmoid
from keras_vit.models.mobile_former.mobile_bottleneck import (
    DownsamplingBottleneck,
    LiteBottleneck,
    MobileBottleneck,
)
from keras_vit.models.mobile_former.mobile_former_block import MobileFormerBlock
from keras_vit.models.mobile_former.mobile_to_former import MobileToFormer
from keras_vit.models.mobile_former.row_softmax import RowSoftmax

rng = np.random.default_rng(0)
FEATURES = rng.normal(size=(2, 5, 6, 8)).astype("float32")
TOKENS = rng.normal(size=(2, 3, 16)).astype("float32")
TOKEN = TOKENS[:, 0]

# Every layer with its settings and inputs.
CASES = [
    (ChannelShuffle, {"groups": 4}, (FEATURES,)),
    (layers.Shift, {"offset": -2.0}, (FEATURES,)),
    (HardSigmoid, {"limit": 2.0}, (FEATURES,)),
    (RowSoftmax, {}, (TOKENS,)),
    (layers.LearnedTokens, {"num_tokens": 4, "width": 5, "initializer": "glorot_uniform"}, (FEATURES,)),
    (DynamicReLU, {"channels": 8, "width": 16}, (FEATURES, TOKEN)),
    (Former, {"width": 16, "drop_path_rate": 0.1}, (TOKENS,)),
    (MobileToFormer, {"channels": 8, "width": 16, "drop_path_rate": 0.1}, (FEATURES, TOKENS)),
    (FormerToMobile, {"channels": 8, "drop_path_rate": 0.1}, (FEATURES, TOKENS)),
    (LiteBottleneck, {"input_channels": 8, "hidden_channels": 16, "channels": 8}, (FEATURES,)),
    (
        LiteBottleneck,
        {"input_channels": 8, "hidden_channels": 24, "channels": 12, "strides": 2, "groups": 4},
        (FEATURES,),
    ),
    (MobileBottleneck, {"input_channels": 8, "hidden_channels": 20, "channels": 8, "width": 16}, (FEATURES, TOKEN)),
    (
        MobileBottleneck,
        {"input_channels": 8, "hidden_channels": 20, "channels": 12, "width": 16, "groups": 4},
        (FEATURES, TOKEN),
    ),
    (
        DownsamplingBottleneck,
        {"input_channels": 8, "hidden_channels": 24, "channels": 12, "width": 16, "groups": 4},
        (FEATURES, TOKEN),
    ),
    (
        MobileFormerBlock,
        {"input_channels": 8, "hidden_channels": 20, "channels": 8, "width": 16, "drop_path_rate": 0.1},
        (FEATURES, TOKENS),
    ),
    (
        MobileFormerBlock,
        {"input_channels": 8, "hidden_channels": 24, "channels": 12, "width": 16, "strides": 2},
        (FEATURES, TOKENS),
    ),
]


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor).astype("float64")


def randomized(layer, inputs):
    layer(*inputs)
    for variable in layer.weights:
        values = rng.normal(size=variable.shape) / math.sqrt(max(1, math.prod(variable.shape[:-1])))
        spread = variable.name in ("gamma", "moving_variance")
        variable.assign(1 + 0.3 * np.tanh(values) if spread else values)
    return layer


def outputs(layer, inputs):
    results = layer(*inputs)
    return [numpy(keras.ops.cast(x, "float32")) for x in keras.tree.flatten(results)]


def dense(x, part):
    return x @ numpy(part.kernel) + numpy(part.bias)


def norm(x, part):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + part.epsilon)
    return x * numpy(part.gamma) + numpy(part.beta)


def softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def attention(query, key, value, heads):
    """Compute attention of queries (batch, queries, width) to keys (batch, keys, width), head by head."""
    merged = []
    for q, k, v in zip(*(np.split(x, heads, axis=-1) for x in (query, key, value)), strict=True):
        merged.append(softmax(np.einsum("bqd,bkd->bqk", q, k) / math.sqrt(q.shape[-1])) @ v)
    return np.concatenate(merged, axis=-1)


def hard_sigmoid(x):
    return np.clip(x / 6 + 0.5, 0, 1)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def dynamic_relu(x, token, layer):
    h = hard_sigmoid(dense(np.maximum(dense(token, layer.reduce), 0), layer.expand))
    first, second = np.split(h[:, None, None], 2, axis=-1)
    return np.maximum((2 * (first - 0.5) + 1) * x, 2 * (second - 0.5) * x)


def batch_norm(x, part):
    scale = numpy(part.gamma) / np.sqrt(numpy(part.moving_variance) + 1e-5)
    return (x - numpy(part.moving_mean)) * scale + numpy(part.beta)


def pointwise(x, part, groups=1):
    kernels = np.split(numpy(part.conv.kernel)[0, 0], groups, axis=-1)
    pieces = [a @ kernel for a, kernel in zip(np.split(x, groups, axis=-1), kernels, strict=True)]
    return batch_norm(np.concatenate(pieces, axis=-1), part.norm)


def depthwise(x, part, strides=1):
    kernel = numpy(part.conv.kernel)  # (3, 3, channels, multiplier)
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    summed = sum(padded[:, i : i + height, j : j + width, :, None] * kernel[i, j] for i in range(3) for j in range(3))
    return batch_norm(summed.reshape(*x.shape[:-1], -1)[:, ::strides, ::strides], part.norm)


def shuffled(x, groups):
    """Move channel g * n + i to i * groups + g, where each group has n channels."""
    n = x.shape[-1] // groups
    return np.stack([x[..., g * n + i] for i in range(n) for g in range(groups)], axis=-1)


def former(x, layer):
    x = norm(x + dense(attention(dense(x, layer.query), x, x, 4), layer.projection), layer.norm1)
    return norm(x + dense(gelu(dense(x, layer.expand)), layer.contract), layer.norm2)


def mobile_to_former(features, tokens, layer):
    positions = features.reshape(len(features), -1, features.shape[-1])
    gathered = attention(dense(tokens, layer.query), positions, positions, 2)
    gate = 2 * hard_sigmoid(dense(tokens, layer.gate))
    return norm(tokens + dense(gathered * gate, layer.projection), layer.norm)


def former_to_mobile(features, tokens, layer):
    positions = features.reshape(len(features), -1, features.shape[-1])
    looked_up = attention(positions, dense(tokens, layer.key), dense(tokens, layer.value), 2)
    return features + looked_up.reshape(features.shape)


def lite(x, layer, strides=1, groups=1, shortcut=False):
    y = np.clip(depthwise(x, layer.depthwise, strides), 0, 6)
    y = pointwise(shuffled(y, x.shape[-1]) if groups > 1 else y, layer.project, groups)
    return x + y if shortcut else y


def bottleneck(x, token, layer, groups=1, shortcut=False):
    y = shuffled(pointwise(x, layer.expand, groups), groups)
    y = depthwise(dynamic_relu(y, token, layer.expand_relu), layer.depthwise)
    y = pointwise(dynamic_relu(y, token, layer.depthwise_relu), layer.project, groups)
    y = shuffled(y, groups)
    return x + y if shortcut else y


def downsampling(x, token, layer, groups=1):
    def shuffled_copies(y, channels):
        return shuffled(y, channels) if groups > 1 else y

    y = shuffled_copies(depthwise(x, layer.depthwise1, 2), x.shape[-1])
    y = pointwise(dynamic_relu(y, token, layer.depthwise1_relu), layer.project1, groups)
    z = shuffled_copies(depthwise(y, layer.depthwise2), y.shape[-1])
    return y + pointwise(dynamic_relu(z, token, layer.depthwise2_relu), layer.project2, groups)


@pytest.mark.parametrize(("layer", "settings", "inputs"), CASES, ids=lambda case: getattr(case, "__name__", ""))
class TestEveryLayer:
    def test_config_round_trip(self, layer, settings, inputs):
        first = randomized(layer(**settings), inputs)
        second = layer.from_config(first.get_config())
        assert second.get_config() == first.get_config()
        second(*inputs)
        second.set_weights(first.get_weights())
        for given, expected in zip(outputs(second, inputs), outputs(first, inputs), strict=True):
            np.testing.assert_array_equal(given, expected)

    def test_the_output_shape_is_known_before_it_runs(self, layer, settings, inputs):
        known = layer(**settings).compute_output_shape(*((None, *x.shape[1:]) for x in inputs))
        symbolic = layer(**settings)(*(keras.Input(x.shape[1:]) for x in inputs))
        given = layer(**settings)(*inputs)
        if not isinstance(given, tuple):
            known = [known]
        for shape, *tensors in zip(known, *map(keras.tree.flatten, (symbolic, given)), strict=True):
            assert tuple(shape[1:]) == tuple(tensors[0].shape[1:]) == tuple(tensors[1].shape[1:])

    def test_saving_within_a_model(self, layer, settings, inputs, tmp_path):
        symbols = [keras.Input(x.shape[1:]) for x in inputs]
        model = keras.Model(symbols, layer(**settings)(*symbols))
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        for given, expected in zip(outputs(loaded, [inputs]), outputs(model, [inputs]), strict=True):
            np.testing.assert_array_equal(given, expected)

    def test_mixed_precision_is_close_to_float32(self, layer, settings, inputs):
        full = randomized(layer(**settings), inputs)
        mixed = layer(**settings, dtype="mixed_float16")
        mixed(*inputs)
        mixed.set_weights(full.get_weights())
        for given, expected in zip(outputs(mixed, inputs), outputs(full, inputs), strict=True):
            assert np.max(np.abs(given - expected)) < 0.01 * max(1, np.max(np.abs(expected)))


def check(layer, inputs, *expected):
    given = outputs(randomized(layer, inputs), inputs)
    for one, definition in zip(given, expected, strict=True):
        np.testing.assert_allclose(one, definition(), rtol=1e-4, atol=1e-4)


def test_channel_shuffle():
    np.testing.assert_array_equal(numpy(ChannelShuffle(4)(FEATURES)), shuffled(FEATURES, 4))
    np.testing.assert_array_equal(numpy(ChannelShuffle(1)(FEATURES)), FEATURES)


def test_hard_sigmoid():
    np.testing.assert_allclose(numpy(HardSigmoid(2.0)(FEATURES * 4)), 2 * hard_sigmoid(FEATURES * 4), atol=1e-6)


def test_row_softmax():
    expected = np.swapaxes(softmax(np.swapaxes(TOKENS.astype("float64"), 1, 2)), 1, 2)
    np.testing.assert_allclose(numpy(RowSoftmax()(TOKENS)), expected, atol=1e-6)
    # Large scores and their sums do not overflow in float16.
    large = numpy(RowSoftmax(dtype="float16")(np.float16(np.full((1, 70_000, 1), 60_000))))
    np.testing.assert_allclose(large, 1 / 70_000, rtol=5e-3)


def test_float_matmul():
    a, b = rng.normal(size=(2, 3, 4, 5)).astype("float32"), rng.normal(size=(2, 3, 6, 5)).astype("float32")
    layer = layers.FloatMatMul(transpose_b=True)
    np.testing.assert_allclose(numpy(layer(a, b)), a @ np.swapaxes(b, -1, -2), atol=1e-5)
    assert layer.compute_output_shape(a.shape, b.shape) == (2, 3, 4, 6)
    assert not isinstance(layer, layers.MatMul)  # The plan keeps it in float because it is not a `MatMul`.


def test_learned_tokens():
    layer = randomized(layers.LearnedTokens(4, 5), (FEATURES,))
    np.testing.assert_array_equal(numpy(layer(FEATURES)), np.stack([numpy(layer.tokens)] * 2))


def test_dynamic_relu():
    layer = DynamicReLU(8, 16)
    check(layer, (FEATURES, TOKEN), lambda: dynamic_relu(FEATURES, TOKEN, layer))


def test_dynamic_relu_starts_as_a_relu():
    np.testing.assert_allclose(
        numpy(DynamicReLU(8, 16)(FEATURES, TOKEN)), np.maximum(FEATURES, 0), atol=0.02 * np.abs(FEATURES).max()
    )


def test_former():
    layer = Former(16)
    check(layer, (TOKENS,), lambda: former(TOKENS, layer))


def test_mobile_to_former():
    layer = MobileToFormer(8, 16)
    check(layer, (FEATURES, TOKENS), lambda: mobile_to_former(FEATURES, TOKENS, layer))


def test_former_to_mobile():
    layer = FormerToMobile(8)
    check(layer, (FEATURES, TOKENS), lambda: former_to_mobile(FEATURES, TOKENS, layer))


def test_lite_bottleneck():
    layer = LiteBottleneck(8, 16, 8)
    check(layer, (FEATURES,), lambda: lite(FEATURES, layer, shortcut=True))
    layer = LiteBottleneck(8, 24, 12, strides=2, groups=4)
    check(layer, (FEATURES,), lambda: lite(FEATURES, layer, strides=2, groups=4))


def test_mobile_bottleneck():
    layer = MobileBottleneck(8, 20, 8, 16, groups=4)
    check(layer, (FEATURES, TOKEN), lambda: bottleneck(FEATURES, TOKEN, layer, groups=4, shortcut=True))
    layer = MobileBottleneck(8, 20, 12, 16)
    check(layer, (FEATURES, TOKEN), lambda: bottleneck(FEATURES, TOKEN, layer))


@pytest.mark.parametrize("groups", [1, 4])
def test_downsampling_bottleneck(groups):
    layer = DownsamplingBottleneck(8, 24, 12, 16, groups=groups)
    check(layer, (FEATURES, TOKEN), lambda: downsampling(FEATURES, TOKEN, layer, groups))


@pytest.mark.parametrize("strides", [1, 2])
def test_mobile_former_block(strides):
    layer = MobileFormerBlock(8, 24, 8, 16, strides)

    def tokens():
        return former(mobile_to_former(FEATURES, TOKENS, layer.mobile_to_former), layer.former)

    def features():
        first = tokens()[:, 0]
        if strides == 1:
            x = bottleneck(FEATURES, first, layer.mobile, shortcut=True)
        else:
            x = downsampling(FEATURES, first, layer.mobile)
        return former_to_mobile(x, tokens(), layer.former_to_mobile)

    check(layer, (FEATURES, TOKENS), features, tokens)


class TestDropPath:
    """In training, a rate near 1 leaves only the shortcut. The MLP of the Former is never dropped."""

    def test_bridges(self):
        layer = randomized(MobileToFormer(8, 16, drop_path_rate=0.999999), (FEATURES, TOKENS))
        given = numpy(layer(FEATURES, TOKENS, training=True))
        np.testing.assert_allclose(given, norm(TOKENS, layer.norm), rtol=1e-4, atol=1e-4)
        layer = FormerToMobile(8, drop_path_rate=0.999999)
        np.testing.assert_array_equal(numpy(layer(FEATURES, TOKENS, training=True)), FEATURES)

    def test_former(self):
        layer = randomized(Former(16, drop_path_rate=0.999999), (TOKENS,))
        x = norm(TOKENS, layer.norm1)
        expected = norm(x + dense(gelu(dense(x, layer.expand)), layer.contract), layer.norm2)
        np.testing.assert_allclose(numpy(layer(TOKENS, training=True)), expected, rtol=1e-4, atol=1e-4)

    def test_convolutions(self):
        layer = MobileBottleneck(8, 20, 8, 16, drop_path_rate=0.999999)
        np.testing.assert_array_equal(numpy(layer(FEATURES, TOKEN, training=True)), FEATURES)


@pytest.mark.parametrize("make", [
    lambda: Former(18),
    lambda: MobileToFormer(9, 16),
    lambda: FormerToMobile(9),
    lambda: ChannelShuffle(3)(FEATURES),
])  # fmt: skip
def test_heads_and_groups_divide_the_channels(make):
    with pytest.raises(ValueError, match="must divide"):
        make()
