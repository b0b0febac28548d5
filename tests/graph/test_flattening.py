"""The flat form of a model: what is copied, what it is called, and that the model is left alone."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.graph.flattening import leaves
from keras_vit.graph.rebuilding import rebuild

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")


def small(**settings):
    return keras_vit.ViT(
        input_shape=(8, 8, 1), patch_size=4, width=8, depth=2, num_heads=2, classes=3, classifier_activation=None,
        **settings,
    )  # fmt: skip


def backbone(name):
    return keras_vit.ViT(
        input_shape=(8, 8, 1), patch_size=4, width=8, depth=1, num_heads=2, include_top=False, pooling="token",
        name=name,
    )  # fmt: skip


def assert_equal_outputs(one, other, inputs=IMAGES):
    np.testing.assert_array_equal(one(inputs), other(inputs))


@pytest.mark.parametrize("change", [keras_vit.flatten, keras_vit.fuse])
class TestWhatIsFrozen:
    def trained(self, model):
        return {layer.name.split(".")[0] for layer in model.layers if layer.trainable_weights}

    def test_a_frozen_block_stays_frozen(self, change):
        model = small()
        model.get_layer("block_0").trainable = False
        assert "block_1" in self.trained(change(model)) and "block_0" not in self.trained(change(model))

    def test_a_frozen_block_of_a_loaded_model_stays_frozen(self, change, tmp_path):
        model = small()
        model.get_layer("block_0").trainable = False
        model.save(tmp_path / "model.keras")
        assert "block_0" not in self.trained(change(keras.models.load_model(tmp_path / "model.keras")))

    def test_a_frozen_part_stays_frozen(self, change):
        model = small()
        model.get_layer("block_0").mlp.expand.trainable = False
        assert not change(model).get_layer("block_0.mlp.expand").trainable
        assert change(model).get_layer("block_0.mlp.contract").trainable

    def test_a_frozen_model_inside_a_model_stays_frozen(self, change):
        image, inner = keras.Input((8, 8, 1)), backbone("inner")
        inner.trainable = False
        model = keras.Model(image, keras.layers.Dense(3, name="classes")(inner(image)))
        assert self.trained(change(model)) == {"classes"}


def test_the_model_has_no_record_of_being_flattened():
    model = small()
    parts = [model.get_layer("block_0"), model.get_layer("block_0").mlp.expand, model.get_layer("class_token")]
    before = [(len(part._inbound_nodes), len(part._outbound_nodes)) for part in parts]
    keras_vit.fuse(keras_vit.flatten(model))
    keras_vit.fuse(model)
    assert [(len(part._inbound_nodes), len(part._outbound_nodes)) for part in parts] == before


def test_two_models_inside_a_model_may_have_layers_of_one_name():
    image = keras.Input((8, 8, 1))
    merged = keras.layers.Concatenate(name="join")([backbone("left")(image), backbone("right")(image)])
    model = keras.Model(image, keras.layers.Dense(3, name="classes")(merged))
    flat = keras_vit.flatten(model)
    assert_equal_outputs(flat, model)
    names = {layer.name for layer in flat.layers}
    assert {"left.block_0.mlp.expand", "right.block_0.mlp.expand", "classes"} <= names
    assert {name for name, layer in leaves(model) if layer.weights} <= names
    np.testing.assert_allclose(keras_vit.fuse(model)(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)


def test_names_that_still_clash_are_refused_in_words():
    image = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="dense")], name="inner")
    outer = keras.layers.Dense(4, name="dense")(keras.layers.Dense(4, name="inner.dense")(inner(image)))
    with pytest.raises(ValueError, match=r"'inner\.dense' would be the name of two of its layers"):
        keras_vit.flatten(keras.Model(image, outer))


def test_models_inside_models_inside_models_are_opened():
    image, middle = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    inner = keras.Sequential([keras.Input((8, 8, 1)), backbone("inner"), keras.layers.Dense(4, name="narrow")])
    model = keras.Model(image, keras.Model(middle, inner(middle))(image))
    flat = keras_vit.flatten(model)
    assert {"block_0.mlp.expand", "narrow"} <= {layer.name for layer in flat.layers}
    assert_equal_outputs(flat, model)


def test_a_model_that_is_called_twice_shares_its_weights():
    image, inner = keras.Input((8, 8, 1)), backbone("inner")
    turned = keras.layers.Rescaling(-1.0, name="turned")(image)
    model = keras.Model(image, keras.layers.Subtract(name="difference")([inner(image), inner(turned)]))
    flat = keras_vit.flatten(model)
    assert len(flat.weights) == len(inner.weights)
    assert_equal_outputs(flat, model)


def test_a_layer_made_of_keras_layers_keeps_each_of_their_weights():
    tokens = keras.Input((3, 8))
    model = keras.Model(tokens, keras.layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens))
    x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype("float32")
    for copy in (keras_vit.flatten(model), keras_vit.fuse(model), rebuild(model)):
        assert_equal_outputs(copy, model, x)


def test_a_layer_that_computes_with_what_it_was_adapted_to():
    normalization = keras.layers.Normalization(name="normalization")
    normalization.adapt(np.random.default_rng(0).normal(3, 2, size=(50, 4)))
    features = keras.Input((4,))
    model = keras.Model(features, normalization(features))
    x = np.random.default_rng(1).normal(size=(2, 4)).astype("float32")
    assert_equal_outputs(keras_vit.flatten(model), model, x)


def test_several_inputs_and_outputs_keep_their_structure():
    inputs = {"left": keras.Input((4,), name="left"), "right": keras.Input((4,), name="right")}
    outputs = {"sum": keras.layers.Add()(list(inputs.values())), "same": inputs["left"]}
    x = {name: np.full((1, 4), i, "float32") for i, name in enumerate(inputs)}
    given = keras_vit.fuse(keras.Model(inputs, outputs))(x)
    np.testing.assert_array_equal(given["sum"], np.ones((1, 4)))
    np.testing.assert_array_equal(given["same"], np.zeros((1, 4)))


def test_rebuilding_makes_and_calls_layers_differently():
    flat = keras_vit.flatten(small())

    def make(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "activation": "relu"} if layer.name == "head" else config)

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        return keras.layers.Rescaling(2.0, name="doubled")(outputs) if layer.name == "head" else outputs

    expected = 2 * np.maximum(flat(IMAGES), 0)
    np.testing.assert_allclose(rebuild(flat, make, call)(IMAGES), expected, rtol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Gram(keras.layers.Layer):
    """A user's own layer that computes one product for each pair of features."""

    def call(self, inputs):
        return keras.ops.matmul(keras.ops.expand_dims(inputs, 2), keras.ops.expand_dims(inputs, 1))

    def macs(self, input_shape):
        return input_shape[1] ** 2


def test_a_layer_declares_its_own_multiply_accumulates():
    features = keras.Input((4,))
    assert keras_vit.count_macs(keras.Model(features, Gram()(keras.layers.Dense(3)(features)))) == 4 * 3 + 3 * 3
