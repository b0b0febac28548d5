"""What is frozen stays frozen in a saved model, also inside of its composite layers."""

import keras
import pytest

import keras_vit

BUILDERS = {
    "vit": lambda **s: keras_vit.ViT(patch_size=8, width=8, depth=2, num_heads=2, **s),
    "mobilevit_v2": lambda **s: keras_vit.MobileViTV2(
        stem_channels=8, channels=(8, 8, 8, 8, 8), widths=(8, 8, 8), depths=(1, 1, 1), **s
    ),
    "mobile_former": lambda **s: keras_vit.MobileFormer_26M(**s),
}
IMAGE = {"vit": (16, 16, 3), "mobilevit_v2": (32, 32, 3), "mobile_former": (32, 32, 3)}


def trained(model):
    return [variable.path.removeprefix("sequential/") for variable in model.trainable_variables]


def reloaded(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


@pytest.mark.parametrize("family", BUILDERS)
def test_a_frozen_body_is_frozen_after_loading(family, tmp_path):
    model = BUILDERS[family](classes=3, input_shape=IMAGE[family])
    everything = len(model.trainable_variables)
    for layer in model.layers[:-2]:
        layer.trainable = False
    assert 0 < len(trained(model)) < everything / 2
    assert trained(reloaded(model, tmp_path)) == trained(model)
    assert trained(keras.models.clone_model(model)) == trained(model)


def test_a_frozen_backbone_is_frozen_after_loading(tmp_path):
    backbone = BUILDERS["vit"](include_top=False, pooling="avg", input_shape=IMAGE["vit"])
    backbone.trainable = False
    image = keras.Input(IMAGE["vit"])
    for model in (
        keras.Model(image, keras.layers.Dense(3, name="scores")(backbone(image))),
        keras.Sequential([image, backbone, keras.layers.Dense(3, name="scores")]),
    ):
        loaded = reloaded(model, tmp_path)
        assert trained(loaded) == trained(model) == [f"scores/{name}" for name in ("kernel", "bias")]
        loaded.layers[-2].trainable = True
        assert len(trained(loaded)) == 2 + len(backbone.weights)


def test_parts_that_are_frozen_on_their_own_stay_so(tmp_path):
    model = BUILDERS["vit"](classes=3, input_shape=IMAGE["vit"])
    model.get_layer("block_0").attention.query.trainable = False  # A part of a part.
    model.get_layer("block_1").trainable = False
    model.get_layer("block_1").mlp.trainable = True
    model.get_layer("block_1").mlp.expand.trainable = False
    paths = trained(model)
    assert not any("block_0/attention/query" in path or "expand" in path for path in paths if "block_0/mlp" not in path)
    assert any("block_1/mlp/contract" in path for path in paths)
    loaded = reloaded(model, tmp_path)
    assert trained(loaded) == paths
    assert trained(reloaded(loaded, tmp_path)) == paths
    assert trained(keras_vit.resize_model(model, (32, 32, 3))) == paths


def test_a_composite_that_is_created_frozen_has_frozen_parts():
    block = keras_vit.layers.TransformerBlock(8, num_heads=2, mlp_dim=16, trainable=False)
    image = keras.Input((4, 8))
    model = keras.Model(image, block(image))
    assert trained(model) == []
    block.trainable = True
    assert len(trained(model)) == len(model.weights) > 0
