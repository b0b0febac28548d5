"""The layers of MobileViT and MobileViTv2 against NumPy code written from the papers, pixel by pixel."""

import numpy as np
import pytest

from keras_vit import layers
from keras_vit.models.mobilevit.mobilevit_block import MobileViTBlock
from keras_vit.models.mobilevit.mobilevit_v2_block import MobileViTV2Block
from keras_vit.models.mobilevit.separable_attention import SeparableSelfAttention, WeightedSum
from tests.layers.test_layers import attention, norm, numpy, randomized, weights

rng = np.random.default_rng(0)


def part(w, prefix):
    return {name.removeprefix(f"{prefix}/"): value for name, value in w.items() if name.startswith(f"{prefix}/")}


def silu(x):
    return x / (1 + np.exp(-x))


def dense(x, w):
    return x @ w["kernel"] + w["bias"]


def convolution(x, kernel, strides=1, depthwise=False):
    """Compute a convolution with zero padding on all sides, for a kernel (height, width, in, out)."""
    side = kernel.shape[0]
    pad = side // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows, columns = (range(0, size - side + 1, strides) for size in x.shape[1:3])
    letters = "nhwc,hwco->nc" if depthwise else "nhwc,hwco->no"
    return np.stack(
        [
            np.stack([np.einsum(letters, x[:, i : i + side, j : j + side], kernel) for j in columns], 1)
            for i in rows
        ],
        1,
    )  # fmt: skip


def conv_norm(x, w, activation=lambda x: x, **settings):
    x = convolution(x, w["conv/kernel"], **settings)
    if "norm/gamma" in w:
        x = (x - w["norm/moving_mean"]) / np.sqrt(w["norm/moving_variance"] + 1e-5) * w["norm/gamma"] + w["norm/beta"]
    return activation(x)


def resized(x, size, align_corners):
    """Resize bilinearly, as PyTorch defines it with or without aligned corners."""
    for axis, new in enumerate(size, start=1):
        old = x.shape[axis]
        if align_corners:
            where = np.arange(new) * (old - 1) / (new - 1)
        else:
            where = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (where - low).reshape([-1 if a == axis else 1 for a in range(4)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def places():
    """Return the four positions within a patch of 2 x 2."""
    return [(slice(None), slice(i, None, 2), slice(j, None, 2)) for i in range(2) for j in range(2)]


def sequence(x):
    return x.reshape(len(x), -1, x.shape[-1])


def mobilevit_block(x, w, depth, heads):
    size = x.shape[1:3]
    even = [side + side % 2 for side in size]
    y = conv_norm(conv_norm(x, part(w, "local"), silu), part(w, "widen"))
    y = resized(y, even, align_corners=False)
    for place in places():
        tokens = sequence(y[place])
        for index in range(depth):
            block = part(w, f"transformer_{index}")
            normed = norm(tokens, 1e-5) * block["norm1/gamma"] + block["norm1/beta"]
            tokens = tokens + attention(normed, part(block, "attention"), heads)
            normed = norm(tokens, 1e-5) * block["norm2/gamma"] + block["norm2/beta"]
            hidden = silu(dense(normed, part(block, "mlp/expand")))
            tokens = tokens + dense(hidden, part(block, "mlp/contract"))
        tokens = norm(tokens, 1e-5) * w["norm/gamma"] + w["norm/beta"]
        y[place] = tokens.reshape(y[place].shape)
    y = conv_norm(resized(y, size, align_corners=False), part(w, "project_back"), silu)
    return conv_norm(np.concatenate([x, y], -1), part(w, "fuse"), silu)


def group_norm(x, w):
    mean, variance = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    return (x - mean) / np.sqrt(variance + 1e-5) * w["gamma"] + w["beta"]


def separable_attention(x, w):
    query, key, value = (dense(x, part(w, name)) for name in ("query", "key", "value"))
    outputs = np.zeros_like(x)
    for place in places():
        scores = np.exp(sequence(query[place]))
        context = np.sum(scores / scores.sum(1, keepdims=True) * sequence(key[place]), axis=1)
        outputs[place] = np.maximum(value[place], 0) * context[:, None, None]
    return dense(outputs, part(w, "projection"))


def mobilevit_v2_block(x, w, depth):
    x = resized(x, [side + side % 2 for side in x.shape[1:3]], align_corners=True)
    x = conv_norm(conv_norm(x, part(w, "local"), silu, depthwise=True), part(w, "narrow"))
    for index in range(depth):
        block = part(w, f"transformer_{index}")
        x = x + separable_attention(group_norm(x, part(block, "norm1")), part(block, "attention"))
        hidden = silu(dense(group_norm(x, part(block, "norm2")), part(block, "mlp/expand")))
        x = x + dense(hidden, part(block, "mlp/contract"))
    return conv_norm(group_norm(x, part(w, "norm")), part(w, "project_back"))


def with_statistics(layer, inputs):
    """Return a layer with random weights and running statistics."""
    randomized(layer, inputs)
    for variable in layer.non_trainable_weights:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return layer


SIZES = [(4, 6), (5, 6), (4, 7), (5, 3)]


@pytest.mark.parametrize("size", SIZES)
def test_mobilevit_block(size):
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    layer = with_statistics(MobileViTBlock(size, 3, width=8, depth=2, num_heads=2, mlp_dim=12), x)
    expected = mobilevit_block(x.astype("float64"), weights(layer), depth=2, heads=2)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES)
def test_mobilevit_v2_block(size):
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    layer = with_statistics(MobileViTV2Block(size, 3, width=8, depth=2, mlp_dim=12), x)
    expected = mobilevit_v2_block(x.astype("float64"), weights(layer), depth=2)
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("filters", "strides"), [(3, 1), (3, 2), (5, 1)])
def test_inverted_residual(filters, strides):
    x = rng.normal(size=(2, 6, 5, 3)).astype("float32")
    layer = with_statistics(layers.MBConv(filters, 3, strides, expansion=2, activation="silu", zero_init=False), x)
    w = weights(layer)
    expected = conv_norm(x, part(w, "expand"), silu)
    expected = conv_norm(expected, part(w, "depthwise"), silu, strides=strides, depthwise=True)
    expected = conv_norm(expected, part(w, "project"))
    if (filters, strides) == (3, 1):
        expected = expected + x
    np.testing.assert_allclose(numpy(layer(x)), expected, atol=1e-4 * np.abs(expected).max())


def test_unfold_gives_one_patch_after_the_other():
    rows, columns = np.meshgrid(range(4), range(6), indexing="ij")
    tokens = numpy(layers.Unfold()(np.float32(np.stack([rows, columns], -1))[None]))[0]
    assert tokens[:5].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2]]
    assert tokens[-4:].tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]


def test_fold_undoes_unfold():
    x = rng.normal(size=(2, 4, 6, 3)).astype("float32")
    np.testing.assert_array_equal(numpy(layers.Fold(4, 6)(layers.Unfold()(x))), x)


@pytest.mark.parametrize("size", [(8, 5), (3, 4)])
def test_resize(size):
    x = rng.normal(size=(2, 7, 4, 3)).astype("float32")
    np.testing.assert_allclose(numpy(layers.Resize(*size)(x)), resized(x, size, align_corners=False), atol=1e-5)


@pytest.mark.parametrize("size", [(7, 4), (1, 3), (2, 2)])
def test_resize_to_even(size):
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    even = [side + side % 2 for side in size]
    np.testing.assert_allclose(numpy(layers.ResizeToEven()(x)), resized(x, even, align_corners=True), atol=1e-5)


def test_the_two_ways_to_resize_differ():
    x = rng.normal(size=(2, 7, 4, 3))
    assert np.max(np.abs(resized(x, (8, 4), align_corners=True) - resized(x, (8, 4), align_corners=False))) > 0.1


def test_group_norm():
    x = rng.normal(size=(2, 4, 6, 3)).astype("float32") * 3 + 1
    layer = randomized(layers.GroupNorm(), x)
    np.testing.assert_allclose(numpy(layer(x)), group_norm(x, weights(layer)), atol=1e-5)


def test_group_norm_computes_in_float32():
    large = np.float16(rng.normal(size=(2, 50, 12)) * 300)  # The square of 300 overflows in float16.
    outputs = numpy(layers.GroupNorm(dtype="float16")(large))
    assert outputs.dtype == np.float16
    expected = group_norm(large.astype("float32")[:, None], {"gamma": 1, "beta": 0})[:, 0]
    np.testing.assert_allclose(outputs, expected, atol=5e-3)


def test_weighted_sum_computes_in_float32():
    # 4096 weights of 2 ** -12 add up to 1. In float16, a sum near 1 does not change when one of them is added.
    tokens = np.ones((1, 4096, 1, 2), "float16")
    weights = np.full((1, 4096, 1, 1), 2.0**-12, "float16")
    np.testing.assert_allclose(numpy(WeightedSum(dtype="float16")(tokens, weights)), 1, atol=1e-3)


def test_separable_attention_needs_a_number_of_tokens_that_the_groups_divide():
    with pytest.raises(ValueError, match=r"multiple of 4; received the shape \(2, 6, 12\)"):
        SeparableSelfAttention(12, groups=4)(np.zeros((2, 6, 12), "float32"))
