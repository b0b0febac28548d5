"""Cascaded group attention and the layers around it against NumPy code written from the paper."""

import keras
import numpy as np
import pytest

from keras_vit import layers
from keras_vit.layers.squeeze_excite import SqueezeExcite
from keras_vit.models.efficientvit_msra.attention_bias import AttentionBias
from keras_vit.models.efficientvit_msra.cascaded_attention import CascadedGroupAttention

rng = np.random.default_rng(0)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor).astype("float64")


def randomized(layer, inputs):
    layer(inputs)
    for variable in layer.weights:
        variable.assign(
            rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-1, 1], variable.shape) ** (variable.ndim > 1)
        )
    return layer


def normalized(x, norm):
    scale = numpy(norm.gamma) / np.sqrt(numpy(norm.moving_variance) + norm.epsilon)
    return (x - numpy(norm.moving_mean)) * scale + numpy(norm.beta)


def pointwise(x, part):
    return normalized(x @ numpy(part.conv.kernel)[0, 0], part.norm)


def depthwise(x, part):
    kernel = numpy(part.conv.kernel)[..., 0]
    side = kernel.shape[0]
    padded = np.pad(x, ((side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    height, width = x.shape[:2]
    taps = (kernel[i, j] * padded[i : i + height, j : j + width] for i in range(side) for j in range(side))
    return normalized(sum(taps), part.norm)


def head_of_a_window(x, head, window):
    """Compute one head over one window (rows, columns, channels)."""
    rows, columns = window
    query = depthwise(pointwise(x, head.query), head.nearby).reshape(rows * columns, -1)
    key, value = (pointwise(x, part).reshape(rows * columns, -1) for part in (head.key, head.value))
    scores, table = query @ key.T * query.shape[1] ** -0.5, numpy(head.bias.table)
    for p, q in np.ndindex(scores.shape):
        down, right = abs(p // columns - q // columns), abs(p % columns - q % columns)
        scores[p, q] += table[down * columns + right]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True) @ value).reshape(rows, columns, -1)


def definition(image, layer, heads, window):
    """Compute the attention over a map (rows, columns, channels), window by window."""
    (height, width, channels), (rows, columns) = image.shape, window
    padded = np.pad(image, ((0, -height % rows), (0, -width % columns), (0, 0)))
    found = np.zeros_like(padded)
    for top in range(0, padded.shape[0], rows):
        for left in range(0, padded.shape[1], columns):
            before = 0
            for index in range(heads):
                own = slice(index * channels // heads, (index + 1) * channels // heads)
                x = padded[top : top + rows, left : left + columns, own] + before
                before = head_of_a_window(x, getattr(layer, f"head_{index}"), window)
                found[top : top + rows, left : left + columns, own] = before
    return pointwise(np.maximum(found, 0), layer.project)[:height, :width]


# One window; whole windows; padding at the right, at the bottom, at both; a map that is narrower than the window.
@pytest.mark.parametrize(
    ("size", "window"),
    [((3, 3), (3, 3)), ((6, 3), (3, 3)), ((3, 6), (3, 3)), ((6, 5), (3, 3)), ((7, 4), (3, 3)), ((5, 2), (3, 2))],
)
def test_cascaded_group_attention(size, window):
    image = rng.normal(size=(2, *size, 6)).astype("float32")
    layer = CascadedGroupAttention(6, 2, size, window=3, key_dim=4, kernel_sizes=(3, 5))
    randomized(layer, image)
    expected = np.stack([definition(one.astype("float64"), layer, 2, window) for one in image])
    np.testing.assert_allclose(numpy(layer(image)), expected, rtol=1e-3, atol=1e-3)


def test_attention_bias_depends_on_the_distance_alone():
    layer = AttentionBias((2, 3))
    layer(np.zeros((1, 6, 6), "float32"))
    layer.table.assign(np.arange(6.0))
    # Pixels 0 1 2 / 3 4 5: the offset (rows, columns) has number 3 * rows + columns.
    assert numpy(layer(np.zeros((1, 6, 6), "float32")))[0].tolist() == [
        [0, 1, 2, 3, 4, 5],
        [1, 0, 1, 4, 3, 4],
        [2, 1, 0, 5, 4, 3],
        [3, 4, 5, 0, 1, 2],
        [4, 3, 4, 1, 0, 1],
        [5, 4, 3, 2, 1, 0],
    ]


def test_squeeze_excite():
    image = rng.normal(size=(2, 3, 4, 6)).astype("float32")
    layer = randomized(SqueezeExcite(6, 2), image)
    (a, b), (c, d) = ((numpy(part.kernel)[0, 0], numpy(part.bias)) for part in (layer.reduce, layer.expand))
    gate = 1 / (1 + np.exp(-(np.maximum(image.mean((1, 2)) @ a + b, 0) @ c + d)))
    np.testing.assert_allclose(numpy(layer(image)), image * gate[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [layers.MBConv, layers.FusedMBConv, layers.DepthwiseSeparableConv, layers.BasicConv])
def test_a_branch_that_keeps_the_shape_is_added_and_starts_at_zero(make):
    image = rng.normal(size=(2, 5, 4, 6)).astype("float32")
    residual, strided = make(6, 6), make(8, 6, strides=2)
    np.testing.assert_array_equal(numpy(residual(image)), image.astype("float64"))
    assert strided(image).shape == (2, 3, 2, 8) == strided.compute_output_shape(image.shape)
    assert np.any(numpy(make(6, 6, zero_init=False)(image)) != image)


def test_mbconv_from_its_parts():
    image = rng.normal(size=(2, 5, 4, 6)).astype("float32")
    layer = randomized(layers.MBConv(6, 6, expansion=2, activation="relu"), image)
    for one, output in zip(image.astype("float64"), numpy(layer(image)), strict=True):
        hidden = np.maximum(pointwise(one, layer.expand), 0)
        hidden = np.maximum(depthwise(hidden, layer.depthwise), 0)
        np.testing.assert_allclose(output, one + pointwise(hidden, layer.project), rtol=1e-3, atol=1e-3)


def test_errors_name_the_shape():
    with pytest.raises(ValueError, match="num_heads=4"):
        CascadedGroupAttention(6, 4, (4, 4))
    with pytest.raises(ValueError, match=r"expects \(batch, 4, 4, 6\); received the shape \(1, 5, 4, 6\)"):
        CascadedGroupAttention(6, 2, (4, 4))(np.zeros((1, 5, 4, 6), "float32"))
    with pytest.raises(ValueError, match="window of 2 x 3"):
        AttentionBias((2, 3))(np.zeros((1, 5, 5), "float32"))
