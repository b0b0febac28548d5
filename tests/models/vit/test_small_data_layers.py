"""The layers for small data sets against NumPy code from the paper (arXiv 2112.13492, sections 3.2 and 3.3)."""

import keras
import numpy as np
import pytest

from keras_vit import layers
from keras_vit.models.vit.shifted_patch_embedding import ShiftedPatchEmbedding
from tests.layers.test_layers import norm, numpy, randomized, weights

rng = np.random.default_rng(0)
TOKENS = rng.normal(size=(2, 5, 12)).astype("float32")
IMAGES = rng.normal(size=(2, 8, 12, 3)).astype("float32")

CASES = [
    (ShiftedPatchEmbedding, {"width": 7, "patch_size": (4, 2), "epsilon": 1e-3}, IMAGES),
    (layers.MultiHeadSelfAttention, {"width": 12, "num_heads": 3, "locality": True}, TOKENS),
    (layers.TransformerBlock, {"width": 12, "num_heads": 3, "mlp_dim": 24, "locality": True}, TOKENS),
    (layers.HeadScale, {"num_heads": 3, "init": 0.5}, TOKENS),
    (layers.DiagonalMask, {}, rng.normal(size=(2, 5, 5)).astype("float32")),
]


@pytest.mark.parametrize(("layer", "settings", "inputs"), CASES, ids=[case[0].__name__ for case in CASES])
def test_saving_and_output_shape(layer, settings, inputs, tmp_path):
    first = layer(**settings)
    image = keras.Input(inputs.shape[1:])
    model = keras.Model(image, first(image))
    randomized(first, inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].get_config() == first.get_config() and settings.items() <= first.get_config().items()
    np.testing.assert_array_equal(numpy(loaded(inputs)), numpy(model(inputs)))
    assert tuple(layer(**settings).compute_output_shape((None, *inputs.shape[1:]))) == model.output_shape


def shifted(images, down, right):
    """Shift an image by a number of pixels, up or to the left if negative, and fill with zeros."""
    result = np.zeros_like(images)
    _, height, width, _ = images.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = images[:, row - down, column - right]
    return result


def shifted_patches(images, height, width):
    """Return the values of each patch, row by row, in the image and in the four shifted copies."""
    half_height, half_width = height // 2, width // 2
    copies = [images]
    for down in (half_height, -half_height):
        copies += [shifted(images, down, right) for right in (half_width, -half_width)]
    return np.stack(
        [
            np.concatenate(
                [c[:, row : row + height, column : column + width].reshape(len(c), -1) for c in copies], axis=1
            )
            for row in range(0, images.shape[1], height)
            for column in range(0, images.shape[2], width)
        ],
        axis=1,
    )


@pytest.mark.parametrize("patch_size", [2, 4, (4, 6), (8, 2)])
def test_shifted_patch_embedding(patch_size):
    layer = randomized(ShiftedPatchEmbedding(7, patch_size), IMAGES)
    w = weights(layer)
    height, width = layer.patch_size
    patches = shifted_patches(IMAGES, height, width)
    assert patches.shape == (2, 8 // height * 12 // width, 5 * height * width * 3)
    x = norm(patches, 1e-5) * w["norm/gamma"] + w["norm/beta"]
    expected = x @ w["projection/kernel"] + w["projection/bias"]
    np.testing.assert_allclose(numpy(layer(IMAGES)), expected, atol=2e-4)
    # Scale and shift of a LayerNorm over all values of five patches, and a dense layer on them.
    values = 5 * height * width * 3
    assert layer.count_params() == 2 * values + values * 7 + 7


def test_a_token_covers_half_a_patch_around_its_own_and_no_more():
    layer = randomized(ShiftedPatchEmbedding(7, 4), IMAGES)
    for row, column, seeing in (
        (0, 0, {0}),
        (1, 1, {0}),
        (2, 6, {1, 4, 2, 5}),
        (3, 5, {0, 1, 3, 4}),
        (5, 4, {0, 1, 3, 4}),
    ):
        changed = IMAGES.copy()
        changed[:, row, column] += 1
        moved = np.abs(numpy(layer(changed)) - numpy(layer(IMAGES))).max(axis=(0, 2)) > 1e-4
        assert set(np.flatnonzero(moved)) == seeing


def test_shifted_patch_embedding_refuses_half_pixels():
    with pytest.raises(ValueError, match="must be even, since the shift is half a patch; received patch_size=5"):
        ShiftedPatchEmbedding(7, 5)
    with pytest.raises(ValueError, match=r"received patch_size=\(4, 3\)"):
        ShiftedPatchEmbedding(7, (4, 3))
    with pytest.raises(ValueError, match="ShiftedPatchEmbedding expects images"):
        ShiftedPatchEmbedding(7, 4)(TOKENS)


def locality_attention(x, w, heads):
    """Compute attention of each token to the others. `scale` is the reciprocal of each head's temperature."""
    batch, count, dim = x.shape
    size = dim // heads
    q, k, v = (x @ w[f"{name}/kernel"] + w.get(f"{name}/bias", 0) for name in ("query", "key", "value"))
    outputs = np.zeros_like(x)
    for head in range(heads):
        channels = slice(head * size, (head + 1) * size)
        for image in range(batch):
            for token in range(count):
                others = [other for other in range(count) if other != token]
                temperature = 1 / w["scale/gamma"][head]
                scores = k[image, others, channels] @ q[image, token, channels] / temperature
                probabilities = np.exp(scores - scores.max())
                outputs[image, token, channels] = probabilities / probabilities.sum() @ v[image, others, channels]
    return outputs @ w["projection/kernel"] + w["projection/bias"]


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_locality_self_attention(qkv_bias):
    layer = randomized(layers.MultiHeadSelfAttention(12, 3, qkv_bias, locality=True), TOKENS)
    w = weights(layer)
    assert len(set(w["scale/gamma"])) == 3
    np.testing.assert_allclose(numpy(layer(TOKENS)), locality_attention(TOKENS, w, 3), atol=1e-4)
    assert layer.count_params() == 4 * 12 * 12 + (4 if qkv_bias else 1) * 12 + 3


def test_the_temperature_starts_at_the_square_root_of_a_heads_width():
    layer = layers.MultiHeadSelfAttention(12, 3, locality=True)
    layer(TOKENS)
    np.testing.assert_allclose(1 / weights(layer)["scale/gamma"], np.full(3, np.sqrt(12 / 3)), rtol=1e-6)
    # It is trained from there.
    assert any(variable is layer.scale.gamma for variable in layer.trainable_weights)


def test_head_scale():
    layer = randomized(layers.HeadScale(4), TOKENS)
    expected = TOKENS.reshape(2, 5, 4, 3) * weights(layer)["gamma"][:, np.newaxis]
    np.testing.assert_allclose(numpy(layer(TOKENS)), expected.reshape(2, 5, 12), atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_mask_is_exact_in_every_precision(policy):
    """The diagonal has a probability of zero even with the largest scores, and the other probabilities are exact."""
    layer = layers.MultiHeadSelfAttention(12, 3, locality=True, dtype=policy)
    scores = (rng.normal(size=(2, 3, 5, 5)) + 3000 * np.eye(5)).astype("float16")
    probabilities = numpy(layer.softmax(layer.mask(keras.ops.convert_to_tensor(scores))))
    assert probabilities.dtype == np.float32
    np.testing.assert_array_equal(probabilities[..., range(5), range(5)], 0)
    exponentials = np.exp(scores.astype("float64"), where=~np.eye(5, dtype=bool), out=np.zeros(scores.shape))
    np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(-1, keepdims=True), rtol=1e-6)


def test_attention_without_a_diagonal_is_refused():
    with pytest.raises(ValueError, match="received 1 queries and 5 tokens"):
        layers.MultiHeadAttention(12, 3, locality=True)(TOKENS[:, :1], TOKENS)
    with pytest.raises(ValueError, match="2 tokens or more"):
        layers.MultiHeadSelfAttention(12, 3, locality=True)(TOKENS[:, :1])
