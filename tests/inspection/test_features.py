"""Features of blocks, against the outputs of the layers called one by one."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.inspection.features import NoSuchPart, blocks_of, patch_grid
from tests.convnet import convnet

IMAGES = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype("float32")


def vit(**settings):
    return keras_vit.ViT(
        **{"input_shape": (16, 24, 3), "patch_size": (4, 8), "width": 12, "depth": 3, "num_heads": 2, "classes": 5}
        | settings
    )


def by_hand(model, images, last):
    """Return the output of a layer by calling all layers up to it."""
    x = images
    for layer in model.layers[1:]:
        x = layer(x)
        if layer.name == last:
            return np.asarray(x)
    raise KeyError(last)


def test_the_grid_of_patches():
    grid = patch_grid(vit())
    assert (grid.rows, grid.columns, grid.height, grid.width) == (4, 3, 4, 8)


def test_maps_and_tokens_of_a_vit():
    model = vit()
    tokens = by_hand(model, IMAGES, "block_1")
    features = keras_vit.feature_extractor(model, ["block_1"], layout="tokens")(IMAGES)
    np.testing.assert_allclose(features["block_1"], tokens, atol=1e-6)
    maps = np.asarray(keras_vit.feature_extractor(model, [1])(IMAGES)["block_1"])
    assert maps.shape == (2, 4, 3, 12)
    for row in range(4):
        for column in range(3):
            np.testing.assert_allclose(maps[:, row, column], tokens[:, 1 + 3 * row + column], atol=1e-6)


@pytest.mark.parametrize(
    ("blocks", "names"),
    [
        (None, ["block_0", "block_1", "block_2"]),
        (-1, ["block_2"]),
        ([0, "norm"], ["block_0", "norm"]),
        ("patch_embedding", ["patch_embedding"]),
    ],
)
def test_which_blocks(blocks, names):
    assert list(keras_vit.feature_extractor(vit(), blocks).output) == names


def test_the_pyramid_of_a_convolutional_network():
    model = convnet()
    images = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype("float32")
    pyramid = keras_vit.feature_extractor(model, "pyramid")(images)
    assert {name: map.shape[1:3] for name, map in pyramid.items()} == {
        "stride_2": (16, 24),
        "stride_4": (8, 12),
        "stride_8": (4, 6),
    }
    np.testing.assert_allclose(pyramid["stride_4"], by_hand(model, images, "stage_2"), atol=1e-6)
    tokens = keras_vit.feature_extractor(model, "stage_1", layout="tokens")(images)["stage_1"]
    np.testing.assert_allclose(tokens, by_hand(model, images, "stage_1").reshape(2, 8 * 12, 6), atol=1e-6)
    assert [block.name for block in blocks_of(model)] == ["stage_1", "stage_2", "stage_3"]


def test_strides_of_odd_maps():
    # 7 pixels are halved to 4, then to 2 and to 1: strides of 2, 4 and 8, not of 7 / 4, 7 / 2 and 7.
    pyramid = keras_vit.feature_extractor(convnet((7, 7, 3)), "pyramid").output
    assert {name: map.shape[1] for name, map in pyramid.items()} == {"stride_2": 4, "stride_4": 2, "stride_8": 1}


def test_tokens_beside_the_maps_are_no_block():
    images = keras.Input((16, 24, 3))
    tokens = keras_vit.layers.PatchEmbedding(12, 8, name="patch_embedding")(images)
    few = keras.layers.Cropping1D((0, 4))(tokens)
    model = keras.Model(images, keras_vit.layers.TransformerBlock(12, 2, 24, name="former")(few))
    assert blocks_of(model) == []
    features = keras_vit.feature_extractor(model, "former", layout="tokens")
    assert features.output["former"].shape == (None, 2, 12)
    with pytest.raises(NoSuchPart, match="2 tokens are fewer than the 2 x 3 patches"):
        keras_vit.feature_extractor(model, "former")


def test_the_weights_are_shared_and_the_model_is_unchanged(tmp_path):
    model = vit()
    before = model(IMAGES)
    extractor = keras_vit.feature_extractor(model, 0)
    first = np.asarray(extractor(IMAGES)["block_0"])
    np.testing.assert_array_equal(model(IMAGES), before)
    model.get_layer("patch_embedding").projection.bias.assign_add(np.ones(12))
    assert np.abs(np.asarray(extractor(IMAGES)["block_0"]) - first).max() > 0.1
    extractor.save(tmp_path / "features.keras")
    loaded = keras.models.load_model(tmp_path / "features.keras")
    np.testing.assert_allclose(loaded(IMAGES)["block_0"], extractor(IMAGES)["block_0"], atol=1e-6)


def test_a_sequential_model():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras_vit.layers.ConvNorm(4, 3, 2, name="conv")])
    images = IMAGES[:, :8, :8]
    np.testing.assert_allclose(keras_vit.feature_extractor(model, "conv")(images)["conv"], model(images), atol=1e-6)


@pytest.mark.parametrize(
    ("blocks", "layout", "sentence"),
    [
        (3, "maps", "has the blocks 0 to 2; received 3"),
        ("blok_2", "maps", "no layer 'blok_2'. The nearest are block_2"),
        ("head", "maps", "output of 'head' has the shape .*neither that of a sequence"),
        (0, "map", "layout must be one of .*'maps', 'tokens'.*received 'map'"),
    ],
)
def test_unknown_blocks_and_layouts(blocks, layout, sentence):
    with pytest.raises(ValueError, match=sentence):
        keras_vit.feature_extractor(vit(), blocks, layout=layout)


def test_models_without_the_requested_part():
    with pytest.raises(NoSuchPart, match="'convnet' has no PatchEmbedding"):
        patch_grid(convnet())
    with pytest.raises(NoSuchPart, match="no composite blocks"):
        keras_vit.feature_extractor(keras_vit.fuse(vit()))


def test_a_model_inside_another_is_opened():
    body = vit(include_top=False, pooling="token")
    size = body.input_shape[1:]
    model = keras.Sequential([keras.Input(size), keras.layers.Rescaling(2.0), body, keras.layers.Dense(3)])
    expected = keras_vit.feature_extractor(body)(2 * IMAGES)
    given = keras_vit.feature_extractor(model)(IMAGES)
    assert list(given) == list(expected)
    for name in expected:
        np.testing.assert_allclose(given[name], expected[name], atol=1e-5)
    assert patch_grid(model) == patch_grid(body)


def test_several_models_inside_another_are_named():
    image = keras.Input(vit().input_shape[1:])
    model = keras.Model(image, keras.layers.Average()([vit(name="one")(image), vit(name="two")(image)]))
    with pytest.raises(ValueError, match=r"more than one layer .*Pass one of these models.*get_layer\('one'\)"):
        keras_vit.feature_extractor(model)


def test_a_model_that_is_called_twice_is_named():
    image, body = keras.Input(vit().input_shape[1:]), vit(include_top=False, pooling="token")
    model = keras.Model(image, keras.layers.Add()([body(image), body(-image)]))
    with pytest.raises(ValueError, match="is called 2 times"):
        keras_vit.feature_extractor(model)
