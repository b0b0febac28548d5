"""Attention maps, rollout, distances and position similarity, against NumPy code of the published formulas."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.inspection.attention_maps import mean_distances, rollout
from keras_vit.inspection.features import NoSuchPart, PatchGrid
from tests.convnet import convnet

IMAGES = np.random.default_rng(0).normal(size=(3, 16, 24, 3)).astype("float32")
GRID = PatchGrid(rows=2, columns=3, height=8, width=4)


def vit(**settings):
    return keras_vit.ViT(
        **{"input_shape": (16, 24, 3), "patch_size": 8, "width": 12, "depth": 2, "num_heads": 2, "classes": 5}
        | settings
    )


def softmax(scores):
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def attention_by_hand(model, images, index):
    """Compute softmax(Q K' / sqrt(d)) of a block from its weights (Vaswani et al., equation 1)."""
    x = images
    for layer in model.layers[1:]:
        if layer.name == f"block_{index}":
            break
        x = layer(x)
    block = model.get_layer(f"block_{index}")
    tokens = np.asarray(block.norm1(x), "float64")
    heads = []
    for query, key in zip(
        *(
            np.split(tokens @ np.asarray(dense.kernel, "float64") + np.asarray(dense.bias), 2, axis=-1)
            for dense in (block.attention.query, block.attention.key)
        ),
        strict=True,
    ):
        heads.append(softmax(query @ key.transpose(0, 2, 1) / np.sqrt(6)))
    return np.stack(heads, axis=1)


def randomized(model):
    random = np.random.default_rng(1)
    for variable in model.trainable_weights:
        variable.assign_add(0.3 * random.normal(size=variable.shape))
    return model


def test_maps_are_the_softmax_of_queries_and_keys():
    model = randomized(vit())
    maps = keras_vit.attention_maps(model, IMAGES, batch_size=2)
    assert list(maps) == ["block_0", "block_1"]
    for index in range(2):
        found = maps[f"block_{index}"]
        assert found.shape == (3, 2, 7, 7) and found.dtype == np.float32
        np.testing.assert_allclose(found, attention_by_hand(model, IMAGES, index), atol=1e-5)
    assert np.abs(maps["block_0"] - maps["block_1"]).max() > 0.01


def test_maps_of_a_fused_and_of_a_half_precision_model():
    model = randomized(vit())
    maps = keras_vit.attention_maps(model, IMAGES)
    for name, found in keras_vit.attention_maps(keras_vit.fuse(model), IMAGES).items():
        np.testing.assert_allclose(found, maps[name], atol=1e-5)
    half = vit(dtype="mixed_float16")
    half.set_weights(model.get_weights())
    for name, found in keras_vit.attention_maps(half, IMAGES).items():
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, maps[name], atol=2e-2)
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_attention_layers_of_the_same_block_have_different_names():
    images = keras.Input((16, 24, 3))
    tokens = keras_vit.layers.PatchEmbedding(12, 8, name="patch_embedding")(images)
    a = keras_vit.layers.MultiHeadSelfAttention(12, 2, name="a")(tokens)
    flat = keras_vit.flatten(keras.Model(images, keras_vit.layers.MultiHeadSelfAttention(12, 3, name="b")(a)))
    for name in ("a", "b"):
        flat.get_layer(f"{name}.softmax").name = f"block.{name}.softmax"
    maps = keras_vit.attention_maps(flat, IMAGES)
    assert {name: array.shape[1] for name, array in maps.items()} == {"block.a": 2, "block.b": 3}


def test_rollout_of_hand_made_matrices():
    # Two heads whose mean is the first matrix; tokens: class token and 2 x 1 patches.
    first = np.array([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]])
    second = np.array([[0.4, 0.4, 0.2], [0.3, 0.3, 0.4], [0.0, 1.0, 0.0]])
    shift = np.array([[0.1, -0.1, 0.0]])
    heads = np.stack([first + shift, first - shift])[np.newaxis]
    # Equation of section 3: A_i = 0.5 W_att + 0.5 I, rollout_i = A_i rollout_{i-1}, written out for the class token.
    half = [[[0.5 * m[i][j] + 0.5 * (i == j) for j in range(3)] for i in range(3)] for m in (first, second)]
    expected = [sum(half[1][0][k] * half[0][k][j] for k in range(3)) for j in range(3)]
    found = rollout([heads, second[np.newaxis, np.newaxis]], PatchGrid(2, 1, 8, 8))
    np.testing.assert_allclose(found, np.reshape(expected[1:], (1, 2, 1)), atol=1e-12)
    # Without a class token: the mean of all queries.
    whole = np.array(half[1]) @ np.array(half[0])
    found = rollout([heads, second[np.newaxis, np.newaxis]], PatchGrid(3, 1, 8, 8))
    np.testing.assert_allclose(found[0, :, 0], whole.mean(axis=0), atol=1e-12)


def test_rollout_through_a_pooling_attention_has_no_residual_there():
    attention = softmax(np.random.default_rng(0).normal(size=(2, 1, 6, 6)))
    probe = softmax(np.random.default_rng(1).normal(size=(2, 1, 1, 6)))
    expected = probe[:, 0, 0, np.newaxis] @ (0.5 * attention[:, 0] + 0.5 * np.eye(6))
    np.testing.assert_allclose(rollout([attention, probe], GRID), expected.reshape(2, 2, 3), atol=1e-12)


def test_rollout_of_a_model():
    model = randomized(vit())
    flow = np.eye(7)
    for index in range(2):
        flow = (0.5 * attention_by_hand(model, IMAGES, index).mean(axis=1) + 0.5 * np.eye(7)) @ flow
    found = keras_vit.attention_rollout(model, IMAGES)
    np.testing.assert_allclose(found, flow[:, 0, 1:].reshape(3, 2, 3), atol=1e-5)


def test_distance_of_uniform_attention_and_of_the_identity():
    uniform = np.full((2, 1, 7, 7), 1 / 7)
    total = 0.0
    for r in range(2):
        for c in range(3):
            for other_r in range(2):
                for other_c in range(3):
                    total += ((8 * (r - other_r)) ** 2 + (4 * (c - other_c)) ** 2) ** 0.5
    identity = np.broadcast_to(np.eye(7), (2, 1, 7, 7))
    heads = np.concatenate([uniform, identity], axis=1)
    np.testing.assert_allclose(mean_distances({"block": heads}, GRID)["block"], [total / 36, 0], atol=1e-12)


def test_distance_of_attention_to_one_neighbour():
    # Every patch looks at the one below it, two fifths of it at the class token: 8 pixels, and 0 for the lowest row.
    heads = np.zeros((1, 1, 7, 7))
    heads[..., 0] = 0.4
    for patch in range(6):
        heads[0, 0, 1 + patch, 1 + (patch + 3 if patch < 3 else patch)] = 0.6
    np.testing.assert_allclose(mean_distances({"block": heads}, GRID)["block"], [4.0])


def test_distance_of_a_model():
    model = randomized(vit())
    grid = PatchGrid(2, 3, 8, 8)
    found = keras_vit.attention_distance(model, IMAGES)
    expected = mean_distances({"block_1": attention_by_hand(model, IMAGES, 1)}, grid)["block_1"]
    np.testing.assert_allclose(found["block_1"], expected, rtol=1e-4)


def test_similarity_of_positions():
    model = vit()
    table = np.random.default_rng(0).normal(size=(1, 7, 12)).astype("float32")
    model.get_layer("position_embedding").table.assign(table)
    found = keras_vit.position_similarity(model)
    assert found.shape == (2, 3, 2, 3)
    for r in range(2):
        for c in range(3):
            for other_r in range(2):
                for other_c in range(3):
                    a, b = table[0, 1 + 3 * r + c], table[0, 1 + 3 * other_r + other_c]
                    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
                    assert abs(found[r, c, other_r, other_c] - cosine) < 1e-6


def test_models_without_the_requested_part():
    images = np.zeros((1, 32, 48, 3), "float32")
    with pytest.raises(NoSuchPart, match="'convnet' has no attention with a softmax"):
        keras_vit.attention_maps(convnet(), images)
    with pytest.raises(NoSuchPart, match="'convnet' has no PatchEmbedding"):
        keras_vit.position_similarity(convnet())
    inputs = keras.Input((16, 24, 3))
    tokens = keras_vit.layers.PatchEmbedding(12, 8)(inputs)
    with pytest.raises(NoSuchPart, match="'bare' has no PositionEmbedding"):
        keras_vit.position_similarity(keras.Model(inputs, tokens, name="bare"))
    with pytest.raises(NoSuchPart, match="a block with 6 keys comes after one with 7 tokens"):
        rollout([np.ones((1, 1, 7, 7)), np.ones((1, 1, 6, 6))], GRID)


def test_images_of_another_shape():
    with pytest.raises(ValueError, match=r"takes images \(images, 16, 24, 3\); received the shape \(16, 24, 3\)"):
        keras_vit.attention_maps(vit(), IMAGES[0])
