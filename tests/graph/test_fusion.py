"""The flat and the fused form of a model."""

import keras
import numpy as np
import pytest

import keras_vit
from tests.reference import relative_error

IMAGES = np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype("float32")


def model(**settings):
    built = keras_vit.ViT(
        input_shape=(16, 16, 1), patch_size=4, width=24, depth=2, num_heads=3, classes=5,
        classifier_activation=None, drop_path_rate=0.1, dropout_rate=0.1, **settings,
    )  # fmt: skip
    random = np.random.default_rng(1)
    for variable in built.trainable_weights:
        variable.assign(random.normal(size=variable.shape) * 0.3 + (variable.name == "gamma"))
    return built


def error(a, b):
    a, b = np.asarray(a(IMAGES)), np.asarray(b(IMAGES))
    return np.max(np.abs(a - b)) / np.max(np.abs(b))


def test_flat_model_is_the_same_computation():
    original = model()
    flat = keras_vit.flatten(original)
    assert not any(isinstance(layer, keras_vit.layers.Composite) for layer in flat.layers)
    assert {"block_1.attention.query", "patch_embedding.projection"} <= {layer.name for layer in flat.layers}
    assert error(flat, original) == 0


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("trained", ["copy", "original"])
def test_a_model_and_its_flat_copy_can_be_trained_apart(trained, jit_compile):
    models = {"original": model()}
    models["copy"] = keras_vit.flatten(models["original"])
    other = models["copy" if trained == "original" else "original"]
    before = [keras.ops.convert_to_numpy(weight) for weight in other.weights]
    models[trained].compile("adamw", "mse", jit_compile=jit_compile)
    models[trained].fit(IMAGES, np.ones((len(IMAGES), 5)), epochs=2, verbose=0)
    for array, weight in zip(before, other.weights, strict=True):
        np.testing.assert_array_equal(array, weight)
    assert any(np.any(a != b) for a, b in zip(before, models[trained].get_weights(), strict=True))


@pytest.mark.parametrize("settings", [{}, {"layer_scale": 0.2}, {"qkv_bias": False}, {"representation_size": 7}])
def test_fused_model_gives_the_same_outputs(settings):
    original = model(**settings)
    assert error(keras_vit.fuse(original), original) < 1e-5


def test_a_compiled_model_is_fused_without_its_optimizer():
    from keras_vit import training

    original = model()
    # The optimizer has numbers for each variable of this model, and fusing removes some variables.
    original.compile(training.optimizer("adamw", original, 1e-3), "mse")
    original.fit(IMAGES, np.ones((3, 5)), verbose=0)
    assert error(keras_vit.fuse(original), original) < 1e-5
    assert error(keras_vit.flatten(original), original) == 0


def test_fusing_removes_the_factors():
    names = [type(layer).__name__ for layer in keras_vit.fuse(model(layer_scale=0.2)).layers]
    assert not {"Scale", "LayerScale", "Dropout", "DropPath"} & set(names)
    norms = [layer for layer in keras_vit.fuse(model()).layers if isinstance(layer, keras_vit.layers.LayerNorm)]
    # The last norm feeds a slice, so it keeps its scale and shift.
    assert [layer.affine for layer in norms] == [False] * 4 + [True]


@pytest.mark.parametrize("settings", [{}, {"layer_scale": 0.2}, {"include_top": False}])
def test_norms_between_blocks_need_not_subtract_the_mean(settings):
    original = model(**settings)
    fused = keras_vit.fuse(original)
    norms = [layer for layer in fused.layers if isinstance(layer, keras_vit.layers.LayerNorm)]
    assert len(norms) == 5 and not any(layer.subtract_mean for layer in norms)
    tokens = keras.Model(fused.input, fused.get_layer("block_1.add2").output)(IMAGES)
    np.testing.assert_allclose(np.asarray(tokens).mean(-1), 0, atol=1e-5)
    assert error(fused, original) < 1e-5


def test_a_stream_that_something_else_looks_at_keeps_its_mean():
    whole = model()
    tapped = keras.Model(whole.input, [whole.output, whole.get_layer("block_0").output])
    fused = keras_vit.fuse(tapped)
    assert all(layer.subtract_mean for layer in fused.layers if isinstance(layer, keras_vit.layers.LayerNorm))
    for given, expected in zip(fused(IMAGES), tapped(IMAGES), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


@keras.saving.register_keras_serializable("tests")
class Reshape(keras.layers.Layer):
    """A layer of a user's own: not Keras' `Reshape`, whatever its name, but one that adds a number to each channel."""

    def call(self, inputs):
        return inputs + keras.ops.arange(inputs.shape[-1], dtype=inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize(("between", "folds"), [(Reshape, False), (lambda: keras.layers.Reshape((2, 6)), True)])
def test_layers_are_recognized_by_their_class_not_its_name(between, folds):
    tokens = keras.Input((2, 6))
    normed = keras_vit.layers.LayerNorm(name="norm")(between()(keras.layers.Dense(6)(tokens)))
    original = random_weights(keras.Model(tokens, normed))
    fused = keras_vit.fuse(original)
    assert fused.get_layer("norm").subtract_mean is not folds
    x = np.random.default_rng(0).normal(size=(3, 2, 6)).astype("float32")
    np.testing.assert_allclose(fused(x), original(x), rtol=1e-4, atol=1e-4)


@keras.saving.register_keras_serializable("tests")
class Statistics(keras.layers.Layer):
    """Passes its input on, and declares it."""

    identity_in_inference = True

    def call(self, inputs):
        return inputs


@keras.saving.register_keras_serializable("tests")
class Dropout(keras.layers.Layer):
    """A layer of a user's own that is not the identity in inference."""

    def call(self, inputs):
        return inputs + 1


def test_layers_that_declare_to_be_the_identity_in_inference_are_removed():
    features = keras.Input((4,))
    model = keras.Model(features, Dropout()(keras.layers.Dropout(0.5)(Statistics(name="statistics")(features))))
    fused = keras_vit.fuse(model)
    assert [type(layer) for layer in fused.layers] == [keras.layers.InputLayer, Dropout]
    np.testing.assert_array_equal(fused(np.ones((1, 4))), np.full((1, 4), 2.0))
    assert "statistics" in {layer.name for layer in keras_vit.flatten(model).layers}


def test_a_factor_used_twice_is_not_fused():
    image = keras.Input((6,))
    dense = keras.layers.Dense(4)(image)  # Scaled by one use of it, given out as it is by the other.
    outputs = [keras_vit.layers.Scale(3.0)(dense), dense]
    original = keras.Model(image, outputs)
    x = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    for fused, expected in zip(keras_vit.fuse(original)(x), original(x), strict=True):
        np.testing.assert_allclose(fused, expected, rtol=1e-6)


def test_shared_layers_are_not_fused():
    image = keras.Input((6,))
    norm, dense, scale = keras_vit.layers.LayerNorm(), keras.layers.Dense(6), keras_vit.layers.Scale(3.0)
    hidden = dense(norm(image))  # This dense layer sees a norm's output here and a scaled one's below.
    original = keras.Model(image, keras.layers.Add()([dense(scale(hidden)), scale(image), norm(hidden)]))
    random = np.random.default_rng(0)
    for variable in original.weights:
        variable.assign(random.normal(size=variable.shape))
    x = random.normal(size=(2, 6)).astype("float32")
    np.testing.assert_allclose(keras_vit.fuse(original)(x), original(x), rtol=1e-5)


def test_saving_a_fused_model(tmp_path):
    fused = keras_vit.fuse(model())
    fused.save(tmp_path / "fused.keras")
    assert error(keras.models.load_model(tmp_path / "fused.keras"), fused) == 0


def test_models_inside_models_are_opened():
    image = keras.Input((16, 16, 1))
    backbone = keras_vit.ViT(
        include_top=False, pooling="token", input_shape=(16, 16, 1), patch_size=4, width=24, depth=1, num_heads=3
    )
    outer = keras.Model(image, keras.layers.Dense(3, name="classes")(backbone(image)))
    flat = keras_vit.flatten(outer)
    assert "block_0.mlp.expand" in {layer.name for layer in flat.layers}
    assert error(flat, outer) == 0
    sequential = keras.Sequential([keras.Input((16, 16, 1)), backbone, keras.layers.Dense(3, name="classes")])
    assert error(keras_vit.fuse(sequential), sequential) < 1e-5


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="received Own"):
        keras_vit.flatten(Own())


class TestBatchNorm:
    """Each place a batch normalization can stand in, against the model with it in place."""

    images = np.random.default_rng(0).normal(size=(2, 8, 8, 6)).astype("float32")

    def check(self, *layers, left=0):
        image = keras.Input((8, 8, 6))
        x = image
        for layer in layers:
            x = layer(x)
        original = keras.Model(image, x)
        random = np.random.default_rng(1)
        for variable in original.weights:
            variable.assign(random.uniform(0.5, 1.5, variable.shape) * random.choice([-1, 1]) ** (variable.ndim > 1))
        fused = keras_vit.fuse(original)
        np.testing.assert_allclose(fused(self.images), original(self.images, training=False), rtol=2e-4, atol=1e-4)
        norms = [layer for layer in fused.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert len(norms) == left

    @pytest.mark.parametrize("settings", [
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": 3, "groups": 3, "use_bias": True},
        {"kernel_size": 5, "depthwise": True, "input_channels": 6},
        {"activation": "relu"},
    ])  # fmt: skip
    def test_after_a_convolution(self, settings):
        self.check(keras_vit.layers.ConvNorm(12, **settings))

    def test_after_a_dense_layer_and_a_factor(self):
        self.check(keras.layers.Dense(5), keras_vit.layers.LayerScale(0.3), keras.layers.BatchNormalization())

    def test_with_a_constant_after_a_depthwise_convolution(self):
        convolution = keras_vit.layers.ConvNorm(6, 3, depthwise=True, input_channels=6)
        self.check(convolution, keras_vit.layers.Scale(0.25))

    def test_before_a_dense_layer(self):
        self.check(keras.layers.ReLU(), keras.layers.BatchNormalization(), keras.layers.Dense(5, use_bias=False))

    def test_before_a_convolution_that_does_not_pad(self):
        self.check(keras.layers.ReLU(), keras.layers.BatchNormalization(), keras.layers.Conv2D(4, 3, groups=2))

    def test_before_a_convolution_that_pads_it_is_a_scale_and_a_shift(self):
        self.check(keras.layers.ReLU(), keras.layers.BatchNormalization(), keras.layers.Conv2D(4, 3, padding="same"))

    def test_over_another_axis_it_stays(self):
        self.check(keras.layers.Conv2D(4, 1), keras.layers.BatchNormalization(axis=1), left=1)


class TestLargeDepthwiseKernels:
    """A depthwise convolution with more elements than the CPU delegate has kernels for becomes the sum of four."""

    images = np.random.default_rng(0).normal(size=(2, 12, 11, 20)).astype("float32")

    def check(self, parts, *arguments, **settings):
        image = keras.Input(self.images.shape[1:])
        convolution = keras.layers.DepthwiseConv2D(*arguments, name="conv", **settings)
        original = random_weights(keras.Model(image, keras.layers.ReLU()(convolution(image))))
        fused = keras_vit.fuse(original)
        np.testing.assert_allclose(fused(self.images), original(self.images), rtol=1e-4, atol=1e-4)
        found = [layer for layer in fused.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
        assert len(found) == parts
        assert parts == 1 or all(np.prod(layer.kernel_size) <= 25 for layer in found)
        assert fused.count_params() == original.count_params()
        assert keras_vit.count_macs(fused) == keras_vit.count_macs(original)

    @pytest.mark.parametrize("size", [7, 9, (7, 5)])
    @pytest.mark.parametrize("use_bias", [True, False])
    def test_they_are_split(self, size, use_bias):
        self.check(4, size, padding="same", use_bias=use_bias)

    def test_few_channels_are_not(self, monkeypatch):
        """A dense convolution computes them faster in int8."""
        monkeypatch.setattr(self, "images", self.images[..., :16])
        self.check(1, 7, padding="same")

    def test_small_ones_are_not(self):
        self.check(1, 5, padding="same")

    @pytest.mark.parametrize(
        "settings",
        [
            {"kernel_size": 8, "padding": "same"},
            {"kernel_size": 7, "padding": "valid"},
            {"kernel_size": 7, "padding": "same", "strides": 2},
            {"kernel_size": 7, "padding": "same", "dilation_rate": 2},
            {"kernel_size": 11, "padding": "same"},  # Its parts would be too large as well.
        ],
    )
    def test_others_are_not(self, settings):
        self.check(1, **settings)


class TestPatchesOfFewChannels:
    """A convolution over patches takes the columns of a patch as channels."""

    def check(self, reshapes, channels=3, size=(12, 8), **settings):
        images = np.random.default_rng(0).normal(size=(2, *size, channels)).astype("float32")
        image = keras.Input(images.shape[1:])
        settings = {"kernel_size": 4, "strides": 4, **settings}
        original = random_weights(keras.Model(image, keras.layers.Conv2D(6, name="patches", **settings)(image)))
        fused = keras_vit.fuse(original)
        np.testing.assert_allclose(fused(images), original(images), rtol=1e-5, atol=1e-4)
        assert fused.count_params() == original.count_params()
        assert [type(layer) for layer in fused.layers].count(keras.layers.Reshape) == reshapes

    @pytest.mark.parametrize("settings", [{}, {"channels": 1}, {"kernel_size": (4, 2), "strides": (4, 2)}])
    def test_they_are_reshaped(self, settings):
        self.check(1, **settings)

    @pytest.mark.parametrize(
        "settings",
        [{"channels": 8}, {"size": (12, 10)}, {"strides": 2}, {"kernel_size": 1, "strides": 1}],
    )
    def test_others_are_not(self, settings):
        self.check(0, **settings)


def random_weights(built):
    random = np.random.default_rng(1)
    for variable in built.weights:
        variable.assign(random.normal(size=variable.shape))
    return built


@pytest.mark.parametrize(
    "linear",
    [
        lambda: keras.layers.Dense(4, use_bias=False),
        lambda: keras.layers.Dense(4),
        lambda: keras.layers.Conv2D(4, 3, use_bias=False),
        lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, use_bias=False),
    ],
)
def test_a_constant_behind_a_linear_layer_goes_into_its_bias(linear):
    image = keras.Input((6, 6, 3))
    original = random_weights(
        keras.Model(image, keras_vit.layers.Scale(0.5)(keras_vit.layers.Shift(3.0)(linear()(image))))
    )
    fused = keras_vit.fuse(original)
    assert len(fused.layers) == 2
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    np.testing.assert_allclose(fused(x), original(x), rtol=1e-5, atol=1e-5)


def test_learned_tokens_are_projected_once():
    image = keras.Input((6,))
    tokens = keras_vit.layers.LearnedTokens(3, 4)(image)
    projected = keras.layers.Dense(5, name="projected")(tokens)
    activated = keras.layers.Dense(5, activation="relu", name="activated")(tokens)
    original = random_weights(keras.Model(image, [tokens, projected, activated]))
    fused = keras_vit.fuse(original)
    assert isinstance(fused.get_layer("projected"), keras_vit.layers.LearnedTokens)
    assert isinstance(fused.get_layer("activated"), keras.layers.Dense)
    for given, expected in zip(fused(np.ones((2, 6))), original(np.ones((2, 6))), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("channels", "strides", "split"), [(8, 1, True), (8, 2, False), (100, 1, False)])
def test_a_depthwise_convolution_that_multiplies_few_channels_is_split(channels, strides, split):
    image = keras.Input((5, 6, channels))
    depthwise = keras.layers.DepthwiseConv2D(3, strides, "same", depth_multiplier=3, name="depthwise")
    original = random_weights(keras.Model(image, depthwise(image)))
    fused = keras_vit.fuse(original)
    assert fused.get_layer("depthwise").depth_multiplier == (1 if split else 3)
    assert [layer.name for layer in fused.layers[1:-1]] == (["depthwise.repeat"] if split else [])
    x = np.random.default_rng(0).normal(size=(2, 5, 6, channels)).astype("float32")
    np.testing.assert_allclose(fused(x), original(x), rtol=1e-5, atol=1e-5)
    # What training with int8's rounding makes of it stays a depthwise convolution.
    assert len(fused.trainable_weights) == len(original.trainable_weights)


@pytest.mark.parametrize("norm", [keras_vit.layers.LayerNorm, keras_vit.layers.GroupNorm])
def test_a_norms_scale_and_shift_go_into_the_linear_layers_among_its_readers(norm):
    image = keras.Input((3, 6))
    normed = norm(name="norm")(image)
    dense = keras.layers.Dense(6, use_bias=False, name="dense")(normed)
    gated = keras.layers.Multiply()([normed, dense])
    original = random_weights(keras.Model(image, [normed, gated]))
    fused = keras_vit.fuse(original)
    assert not fused.get_layer("norm").affine and fused.get_layer("dense").use_bias
    readers = {node.operation.name for node in fused.get_layer("norm")._outbound_nodes}
    assert readers == {"dense", "norm.affine"}
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    for given, expected in zip(fused(x), original(x), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alone", [True, False])
def test_a_bias_goes_into_the_learned_tokens_that_it_is_added_to(alone):
    image = keras.Input((3, 6))
    tokens = keras_vit.layers.LearnedTokens(3, 5, name="tokens")(image)
    added = keras.layers.Add()([tokens, keras.layers.Dense(5, name="dense")(image)])
    outputs = [added, keras.layers.Dense(2, name="projected")(tokens)] + [tokens] * (not alone)
    original = random_weights(keras.Model(image, outputs))
    fused = keras_vit.fuse(original)
    # Not where others look at the tokens, but a dense layer, which becomes tokens itself.
    assert fused.get_layer("dense").use_bias is not alone
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    for given, expected in zip(fused(x), original(x), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


def test_means_are_not_subtracted_from_pixels_that_a_norm_takes_together():
    """A norm of joined pixels subtracts the mean of all of them, and not that of each pixel."""

    @keras.saving.register_keras_serializable("tests")
    class Join(keras.layers.Layer):
        moves_pixels = True

        def call(self, maps):
            return keras.ops.reshape(maps, (-1, maps.shape[1] // 2, 2 * maps.shape[2]))

    image = keras.Input((4, 6))
    x = keras.layers.Dense(8, name="dense")(image)
    normed = keras_vit.layers.LayerNorm(name="norm")(Join(name="join")(x))
    original = random_weights(keras.Model(image, keras.layers.Dense(3, name="last")(normed)))
    fused = keras_vit.fuse(original)
    assert fused.get_layer("norm").subtract_mean and not fused.get_layer("norm").affine
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    assert relative_error(np.asarray(fused(x)), np.asarray(original(x))) < 1e-5


def test_norms_fold_through_layers_that_only_move_pixels():
    @keras.saving.register_keras_serializable("tests")
    class Reverse(keras.layers.Layer):
        moves_pixels = True

        def call(self, tokens):
            return keras.ops.flip(tokens, axis=1)

    image = keras.Input((4, 6))
    moved = Reverse(name="reverse")(keras_vit.layers.LayerNorm(name="norm")(image))
    outputs = [keras.layers.Dense(3, name="a")(moved), keras.layers.Dense(2, use_bias=False, name="b")(moved)]
    original = random_weights(keras.Model(image, outputs))
    fused = keras_vit.fuse(original)
    assert not fused.get_layer("norm").affine and fused.get_layer("b").use_bias
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    for given, expected in zip(fused(x), original(x), strict=True):
        assert relative_error(np.asarray(given), np.asarray(expected)) < 1e-5
    seen = random_weights(keras.Model(image, [*outputs, moved]))
    assert keras_vit.fuse(seen).get_layer("norm").affine
    for given, expected in zip(keras_vit.fuse(seen)(x), seen(x), strict=True):
        assert relative_error(np.asarray(given), np.asarray(expected)) < 1e-5


def of_an_image(compute):
    image = keras.Input((6, 6, 3))
    return random_weights(keras.Model(image, compute(image)))


def conv(**settings):
    return keras.layers.Conv2D(4, 3, **settings)


@pytest.mark.parametrize(
    ("compute", "left"),
    [
        (lambda x: conv(padding="same")(keras.layers.Rescaling(1 / 255)(x)), []),
        (lambda x: conv(padding="same", activation="relu")(keras.layers.Rescaling(0.2)(3 * x)), []),
        (lambda x: keras.layers.DepthwiseConv2D(3, padding="same")(keras_vit.layers.Scale(3.0)(x)), []),
        (lambda x: keras.layers.Dense(4)(-x / 3), []),
        (lambda x: [conv()(y) for y in [x * 2] * 2], []),
        (lambda x: [conv()(y := x * 2), keras.layers.ReLU()(y)], ["Multiply", "ReLU"]),
        # Sums stay, since an int8 grid suits values around zero better; so do products with a number a channel.
        (lambda x: conv()(keras.layers.Rescaling(0.2, -1)(x)), ["Rescaling"]),
        (lambda x: conv()((x - 3) / 2), ["Subtract"]),
        (lambda x: keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x) * 2 - 1), ["GlobalAveragePooling2D"]),
        (lambda x: conv()(keras.layers.Rescaling([1.0, 2.0, 3.0])(x)), ["Rescaling"]),
        (lambda x: conv()(2 / (x + 9)), ["Add", "TrueDivide"]),
        # What lies behind a layer goes into it, also with a number a channel.
        (lambda x: keras.layers.Rescaling([1.0, 2.0, 3.0, 4.0], 2)(conv()(x)), []),
        (lambda x: 2 - conv()(x) * np.float32([1, 2, 3, 4]), []),
        (lambda x: keras.layers.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4])(conv()(x)), []),
        (lambda x: keras.layers.Normalization(mean=2.0, variance=3.0, axis=None, invert=True)(conv()(x)), []),
        (lambda x: keras.layers.Rescaling(2)(conv(activation="relu")(x)), []),
        (lambda x: keras.layers.Rescaling(2)(keras.layers.ReLU()(conv()(x))), []),
        (lambda x: keras.layers.Rescaling(-2)(conv(activation="relu")(x)), ["Rescaling"]),
        (lambda x: keras.layers.Rescaling(2, 1)(conv(activation="relu")(x)), ["Rescaling"]),
        (lambda x: keras.layers.Rescaling(2)(keras.layers.ReLU(6)(conv()(x))), ["ReLU", "Rescaling"]),
        (lambda x: keras.layers.Normalization(1, mean=[1.0] * 4, variance=[2.0] * 4)(conv()(x)), ["Normalization"]),
    ],
)
def test_numbers_that_are_multiplied_or_added(compute, left):
    original = of_an_image(compute)
    fused = keras_vit.fuse(original)
    products = ("InputLayer", "Conv2D", "DepthwiseConv2D", "Dense")
    kinds = [type(each).__name__ for each in fused.operations]
    assert [kind for kind in kinds if kind not in products and (kind != "ReLU" or "ReLU" in left)] == left
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    for given, expected in zip(keras.tree.flatten(fused(x)), keras.tree.flatten(original(x)), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_shared_layer_takes_what_follows_it_everywhere(everywhere):
    shared, norm = conv(padding="same", name="shared"), keras.layers.BatchNormalization()

    def compute(x):
        return [norm(shared(x)), norm(shared(x + 1)) if everywhere else shared(x + 1)]

    original = of_an_image(compute)
    norm.moving_variance.assign([0.5, 1, 2, 3])
    fused = keras_vit.fuse(original)
    assert any(isinstance(layer, keras_vit.layers.Affine) for layer in fused.layers) is not everywhere
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    for given, expected in zip(fused(x), original(x), strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


AUGMENTATION = {
    "AugMix": {}, "CutMix": {}, "Equalization": {}, "MixUp": {}, "RandAugment": {}, "RandomBrightness": {"factor": 0.2},
    "RandomColorDegeneration": {"factor": 0.2}, "RandomColorJitter": {"brightness_factor": 0.2},
    "RandomContrast": {"factor": 0.2}, "RandomElasticTransform": {}, "RandomErasing": {}, "RandomFlip": {},
    "RandomGaussianBlur": {}, "RandomGrayscale": {}, "RandomHue": {"factor": 0.2}, "RandomInvert": {},
    "RandomPerspective": {}, "RandomPosterization": {"factor": 4}, "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.2}, "RandomSharpness": {"factor": 0.2}, "RandomShear": {"x_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2}, "RandomZoom": {"height_factor": 0.2},
    "Solarization": {}, "GaussianNoise": {"stddev": 0.1}, "GaussianDropout": {"rate": 0.1},
    "AlphaDropout": {"rate": 0.1}, "SpatialDropout2D": {"rate": 0.1}, "ActivityRegularization": {},
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in AUGMENTATION if hasattr(keras.layers, name)])
def test_augmentation_is_removed_where_it_does_nothing(name):
    layer = getattr(keras.layers, name)(**AUGMENTATION[name])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3)).astype("float32")
    np.testing.assert_array_equal(layer(pixels, training=False), pixels)
    image = keras.Input((6, 6, 3))
    fused = keras_vit.fuse(keras.Model(image, keras.layers.ReLU()(layer(image))))
    assert [type(layer) for layer in fused.layers] == [keras.layers.InputLayer, keras.layers.ReLU]


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras_vit.layers.Resize(6, 6),
        lambda: keras_vit.layers.ResizeToEven(),
        lambda: keras.layers.Rescaling(1.0),
        lambda: keras_vit.layers.Affine(),
        lambda: keras.layers.Activation("linear"),
    ],
)
def test_arithmetic_and_resizing_that_change_nothing_are_removed(layer):
    image = keras.Input((6, 6, 3))
    fused = keras_vit.fuse(keras.Model(image, keras.layers.ReLU()(layer()(image))))
    assert [type(layer) for layer in fused.layers] == [keras.layers.InputLayer, keras.layers.ReLU]


def test_layers_that_crop_or_cast_in_inference_stay():
    image = keras.Input((6, 6, 3), dtype="uint8")
    model = keras.Model(image, keras.layers.RandomCrop(4, 4)(keras.layers.RandomFlip()(image)))
    assert [type(layer) for layer in keras_vit.fuse(model).layers[1:]] == [
        keras.layers.RandomFlip, keras.layers.RandomCrop
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_half_precision_becomes_float32(dtype):
    fused = keras_vit.fuse(model(dtype=dtype))
    assert {layer.compute_dtype for layer in fused.layers} == {"float32"}
    assert {variable.dtype for variable in fused.weights} == {"float32"}
    assert fused.output.dtype == "float32"
