"""A trained model at another size and with another head."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.graph.flattening import leaves
from tests.convnet import convnet

RANDOM = np.random.default_rng(0)


def vit(**settings):
    model = keras_vit.ViT(
        **{"input_shape": (16, 16, 3), "patch_size": 4, "width": 12, "depth": 2, "num_heads": 2, "classes": 5}
        | settings
    )
    return randomized(model)


def randomized(model):
    for variable in model.weights:
        noise = RANDOM.normal(size=variable.shape)
        variable.assign(1 + 0.1 * abs(noise) if "variance" in variable.name else 0.3 * noise)
    return model


def images(*shape):
    return RANDOM.normal(size=(2, *shape)).astype("float32")


def corner_aligned(table, rows, columns):
    """Bilinear resizing of (old rows, old columns, dim) with the corners on the corners, by its definition."""
    old_rows, old_columns, dim = table.shape
    result = np.zeros((rows, columns, dim))
    for r in range(rows):
        for c in range(columns):
            y, x = r * (old_rows - 1) / (rows - 1), c * (old_columns - 1) / (columns - 1)
            for i in range(old_rows):
                for j in range(old_columns):
                    result[r, c] += max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j)) * table[i, j]
    return result


@pytest.mark.parametrize("settings", [{}, {"layer_scale": 0.1, "representation_size": 8}, {"include_top": False}])
def test_a_resized_vit_is_one_built_at_that_size_with_the_same_weights(settings):
    model = vit(**settings)
    resized = keras_vit.resize_model(model, (24, 20, 3))
    built = keras_vit.ViT(
        **{"input_shape": (24, 20, 3), "patch_size": 4, "width": 12, "depth": 2, "num_heads": 2, "classes": 5}
        | settings
    )
    for old, new in zip(model.weights, built.weights, strict=True):
        if new.name == "table":
            old = np.asarray(old)
            patches = corner_aligned(old[0, 1:].reshape(4, 4, 12), 6, 5)
            old = np.concatenate([old[:, :1], patches.reshape(1, 30, 12)], axis=1)
        new.assign(old)
    x = images(24, 20, 3)
    np.testing.assert_allclose(resized(x), built(x), atol=1e-5)
    assert resized.input_shape == (None, 24, 20, 3) and resized.name == model.name
    assert model.input_shape == (None, 16, 16, 3)


def test_a_resized_vit_loads_what_one_built_at_that_size_loads(tmp_path):
    from tests.reference import timm_file

    path = timm_file("vit_tiny_patch16_224", tmp_path)
    resized = keras_vit.resize_model(keras_vit.ViT_Ti16(weights=path), (64, 96, 3))
    built = keras_vit.ViT_Ti16(input_shape=(64, 96, 3), weights=path)
    x = images(64, 96, 3)
    np.testing.assert_allclose(resized(x), built(x), atol=1e-6)


def test_there_and_back_to_a_larger_size_keeps_the_table():
    # With the corners aligned, 4 positions stand among 7 at every second place.
    model = vit()
    back = keras_vit.resize_model(keras_vit.resize_model(model, (28, 28, 3)), (16, 16, 3))
    for old, new in zip(model.weights, back.weights, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-6)
    assert np.abs(np.asarray(back(x := images(16, 16, 3))) - np.asarray(model(x))).max() < 1e-5


def test_a_convolutional_network_keeps_its_weights():
    model = randomized(convnet((32, 48, 3)))
    resized = keras_vit.resize_model(model, (40, 24, 3))
    for old, new in zip(model.weights, resized.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert resized.get_layer("stage_3").output.shape == (None, 5, 3, 8)
    x = images(40, 24, 3)
    expected = x
    for layer in model.layers[1:]:
        expected = layer(expected)
    np.testing.assert_allclose(resized(x), expected, atol=1e-6)


def test_precision_preprocessing_and_frozen_layers_stay():
    model = vit(dtype="mixed_float16", include_preprocessing=True)
    model.get_layer("block_0").trainable = False
    model.compile("sgd", loss=lambda true, predicted: keras.ops.mean(predicted))
    for changed in (keras_vit.resize_model(model, (24, 24, 3)), keras_vit.new_head(model, 3)):
        assert changed.get_layer("block_1").dtype_policy.name == "mixed_float16"
        assert changed.get_layer("preprocessing").dtype_policy.name == "float32"
        assert len(changed.trainable_weights) == len(model.trainable_weights) < len(model.weights)
        changed.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        changed.fit(images(*changed.input_shape[1:]), np.array([0, 1]), verbose=0)


def test_a_resized_model_is_saved_and_loaded(tmp_path):
    resized = keras_vit.resize_model(vit(), (24, 20, 3))
    resized.save(tmp_path / "model.keras")
    x = images(24, 20, 3)
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(x), resized(x), atol=1e-6)


def test_a_model_within_a_model():
    body = vit(include_top=False, pooling="token")
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(2.0), body, keras.layers.Dense(3)])
    x = images(24, 20, 3)
    expected = model.layers[-1](keras_vit.resize_model(body, (24, 20, 3))(2 * x))
    np.testing.assert_allclose(keras_vit.resize_model(model, (24, 20, 3))(x), expected, atol=1e-5)
    changed = keras_vit.new_head(model, 7)
    assert changed.output_shape == (None, 7)
    np.testing.assert_array_equal(changed.weights[0], model.weights[0])


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((30, 16, 3), "cannot take images of 30 x 16: its layer 'patch_embedding' does not fit.*28 x 16 would do"),
        ((16, 16, 1), "takes images of 3 channels; received .16, 16, 1."),
        ((16, 16), "received .16, 16."),
    ],
)
def test_sizes_that_a_vit_cannot_take(shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        keras_vit.resize_model(vit(), shape)


def test_weights_that_depend_on_the_size_in_an_unknown_way():
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2, name="head")(keras.layers.Flatten()(inputs))
    with pytest.raises(
        ValueError, match=r"'head/kernel' has the shape \(192, 2\) at the old size and \(48, 2\) at the new"
    ):
        keras_vit.resize_model(keras.Model(inputs, outputs), (4, 4, 3))


@keras.saving.register_keras_serializable("tests")
class RowScale(keras.layers.Layer):
    """One learned factor a row of the map, which is carried over by repeating."""

    def __init__(self, rows, **kwargs):
        super().__init__(**kwargs)
        self.rows = rows

    def build(self, input_shape):
        self.factor = self.add_weight(name="factor", shape=(1, self.rows, 1, 1), initializer="ones")

    def call(self, inputs):
        return keras.ops.reshape(inputs, (-1, self.rows, *inputs.shape[2:])) * self.factor

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "rows": self.rows}


@keras.saving.register_keras_serializable("tests")
class ResizableRowScale(RowScale):
    def config_at(self, input_shape, old_image, new_image):
        return {**self.get_config(), "rows": input_shape[1]}

    def weights_from(self, old):
        return {"factor": np.repeat(np.asarray(old.factor), self.rows // old.rows, axis=1)}


def row_scaled(layer):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, layer(2)(keras.layers.AveragePooling2D(2)(inputs)), name="rows")
    model.layers[-1].factor.assign(np.reshape([2.0, 5.0], (1, 2, 1, 1)))
    return model


def test_a_layer_may_say_how_it_is_carried_over():
    resized = keras_vit.resize_model(row_scaled(ResizableRowScale), (8, 4, 3))
    np.testing.assert_array_equal(np.ravel(resized.layers[-1].factor), [2, 2, 5, 5])


def test_a_layer_that_holds_the_old_size_is_found():
    with pytest.raises(ValueError, match="'rows' cannot take images of 6 x 4: some layer of it holds another size"):
        keras_vit.resize_model(row_scaled(RowScale), (6, 4, 3))


def test_a_new_head():
    model = vit()
    changed = keras_vit.new_head(model, 7)
    x = images(16, 16, 3)
    probabilities = np.asarray(changed(x))
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    for (name, old), (_, new) in zip(leaves(model), leaves(changed), strict=True):
        for before, after in zip(old.weights, new.weights, strict=True):
            assert (before.shape != after.shape) == (name == "head")
            if name != "head":
                np.testing.assert_array_equal(before, after)
    # The weights are copies: training the new one leaves the old one alone.
    changed.get_layer("patch_embedding").projection.bias.assign(np.zeros(12))
    assert np.any(model.get_layer("patch_embedding").projection.bias)


@pytest.mark.parametrize(
    ("before", "given", "last"),
    [("softmax", None, "head"), (None, "sigmoid", "predictions"), (None, "unchanged", "head")],
)
def test_the_activation_of_a_new_head(before, given, last):
    model = vit(classifier_activation=before)
    changed = keras_vit.new_head(model, 5, classifier_activation=given)
    assert changed.layers[-1].name == last
    changed.get_layer("head").set_weights(model.get_layer("head").get_weights())
    x = images(16, 16, 3)
    logits = keras.Model(model.input, model.get_layer("head").output)(x)
    expected = 1 / (1 + np.exp(-np.asarray(logits))) if given == "sigmoid" else logits
    np.testing.assert_allclose(changed(x), expected, atol=1e-5)


def test_both_heads_of_a_mean_are_new():
    body = vit(include_top=False, pooling="token")
    heads = [keras.layers.Dense(5, name=name)(body.output) for name in ("head", "head_dist")]
    mean = keras.layers.Average(name="average")(heads)
    model = keras.Model(body.input, keras.layers.Activation("softmax", name="predictions")(mean))
    changed = keras_vit.new_head(model, 3)
    assert [changed.get_layer(name).units for name in ("head", "head_dist")] == [3, 3]
    assert changed.output_shape == (None, 3) and changed.layers[-1].name == "predictions"
    both = keras.Model(body.input, heads)
    assert keras_vit.new_head(both, 4, None).output_shape == [(None, 4), (None, 4)]


@pytest.mark.parametrize("pooling", [None, "token", "avg"])
def test_a_model_without_a_classifier(pooling):
    with pytest.raises(ValueError, match="does not end in a classifier"):
        keras_vit.new_head(vit(include_top=False, pooling=pooling), 3)
    with pytest.raises(ValueError, match="does not end in a classifier"):
        keras_vit.new_head(keras_vit.fuse(vit(include_top=False, pooling=pooling)), 3)


def test_classes_that_are_no_number():
    with pytest.raises(ValueError, match="classes must be a positive integer; received classes=0"):
        keras_vit.new_head(vit(), 0)
