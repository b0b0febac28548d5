"""Linear attention against its definition: the mean of the values with weights relu(query) . relu(key)."""

import keras
import numpy as np
import pytest

from keras_vit.models.efficientvit.linear_attention import LinearAttention
from keras_vit.models.efficientvit.multi_scale_attention import MultiScaleAttention

rng = np.random.default_rng(0)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def definition(inputs, epsilon=1e-15):
    query, key, value = np.split(inputs.astype("float64"), 3, axis=2)
    outputs = np.zeros_like(value)
    for batch, head in np.ndindex(inputs.shape[:2]):
        for i in range(inputs.shape[3]):
            weights = np.maximum(query[batch, head, :, i], 0) @ np.maximum(key[batch, head], 0)
            outputs[batch, head, :, i] = value[batch, head] @ weights / (weights.sum() + epsilon)
    return outputs


@pytest.mark.parametrize("tokens", [2, 4, 5, 30])  # More and fewer than channels, for both orders of the products.
@pytest.mark.parametrize("epsilon", [1e-15, 0.5])
def test_it_is_the_weighted_mean(tokens, epsilon):
    inputs = rng.normal(size=(2, 3, 12, tokens)).astype("float32")
    layer = LinearAttention(epsilon)
    outputs = numpy(layer(inputs))
    np.testing.assert_allclose(outputs, definition(inputs, epsilon), rtol=2e-4, atol=1e-5)
    assert outputs.shape == layer.compute_output_shape(inputs.shape)
    if epsilon == 0.5:
        assert np.max(np.abs(outputs - definition(inputs))) > 1e-3


@pytest.mark.parametrize("tokens", [3, 30])
def test_a_query_with_no_weights_gives_zero(tokens):
    inputs = rng.normal(size=(1, 1, 12, tokens)).astype("float32")
    inputs[:, :, :4, 0] = -1
    outputs = numpy(LinearAttention()(inputs))
    assert np.all(outputs[..., 0] == 0) and np.all(np.isfinite(outputs))


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_computes_in_float32(dtype):
    inputs = (10 * rng.normal(size=(1, 2, 24, 2000))).astype("float32")
    layer = LinearAttention(dtype=dtype)
    outputs = layer(keras.ops.cast(inputs, layer.compute_dtype))
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    expected = definition(numpy(keras.ops.cast(keras.ops.cast(inputs, layer.compute_dtype), "float32")))
    # The sums reach 1e5, beyond the range of float16. Only the result is rounded.
    np.testing.assert_allclose(numpy(keras.ops.cast(outputs, "float32")), expected, rtol=1e-2, atol=1e-2)


def test_macs_count_the_smaller_order():
    layer = LinearAttention()
    assert layer.macs((None, 3, 12, 30)) == 3 * (2 * 30 * 4 * 4 + 30 * 4)
    assert layer.macs((None, 3, 12, 3)) == 3 * (2 * 3 * 3 * 4)


def test_errors_name_the_shape():
    with pytest.raises(ValueError, match=r"received the shape \(1, 2, 10, 5\)"):
        LinearAttention()(np.zeros((1, 2, 10, 5), "float32"))
    with pytest.raises(ValueError, match="received head_dim=16 and channels=24"):
        MultiScaleAttention(24, head_dim=16)


def test_multi_scale_attention_from_its_parts():
    """The channels are ordered head by head. The second half of the heads attends to sums of nearby pixels."""
    layer = MultiScaleAttention(6, head_dim=3, scale=3)
    image = rng.normal(size=(2, 4, 5, 6)).astype("float32")
    layer(image)
    for variable in layer.trainable_weights:
        variable.assign(rng.normal(size=variable.shape))
    qkv = image @ numpy(layer.qkv.conv.kernel)[0, 0]
    kernel, padded = numpy(layer.nearby.conv.kernel)[..., 0], np.pad(qkv, ((0, 0), (1, 1), (1, 1), (0, 0)))
    near = sum(kernel[i, j] * padded[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3))
    mix = numpy(layer.mix.conv.kernel)[0, 0]  # (3, 18): the three input channels of the group of each output.
    mixed = np.stack([near[..., c // 3 * 3 :][..., :3] @ mix[:, c] for c in range(18)], axis=-1)
    maps = np.concatenate([qkv, mixed], axis=-1).reshape(2, 20, 4, 9)
    attended = definition(maps.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2).reshape(2, 4, 5, 12)
    gamma, beta = (numpy(variable) for variable in (layer.project.norm.gamma, layer.project.norm.beta))
    expected = attended @ numpy(layer.project.conv.kernel)[0, 0] / np.sqrt(1 + 1e-5) * gamma + beta
    np.testing.assert_allclose(numpy(layer(image)), expected, rtol=1e-3, atol=1e-3)
