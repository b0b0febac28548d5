"""ViT as a user builds it."""

import keras
import numpy as np
import pytest

import keras_vit

# Parameters with a class token and 1000 classes: SPEC tables of timm's and the papers' sizes.
PARAMETERS = {
    "vit_ti16": 5_717_416,
    "vit_s32": 22_878_952,
    "vit_s16": 22_050_664,
    "vit_b32": 88_224_232,
    "vit_b28": 87_682_792,
    "vit_b16": 86_567_656,
    "vit_b8": 86_576_872,
    "vit_l32": 306_535_400,
    "vit_l16": 304_326_632,
    "vit_h14": 632_045_800,
    "vit_g14": 1_012_611_432,
    "vit_gg14": 1_844_440_680,
    "vit_xs28": 5_615_336,
    "vit_xs16": 5_243_624,
}
TINY = dict(input_shape=(16, 16, 1), patch_size=4, width=24, depth=2, num_heads=3, classes=5)


def tiny(**settings):
    return keras_vit.ViT(**{**TINY, **settings})


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameter_counts(name, parameters):
    assert keras_vit.model_info(name)["parameters"] == parameters


def test_every_variant_has_a_count():
    assert keras_vit.list_models("vit_*") == sorted(PARAMETERS)


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [("vit_b16", 1000, 87_158_248), ("vit_l16", 21_843, 326_740_307), ("vit_h14", 21_843, 660_385_363)],
)
def test_parameter_counts_with_a_representation_layer(name, classes, parameters):
    width = {"b": 768, "l": 1024, "h": 1280}[name[4]]
    info = keras_vit.model_info(name, classes=classes, representation_size=width)
    assert info["parameters"] == parameters


def test_counting_agrees_with_a_built_model():
    model = keras_vit.ViT_Ti16()
    assert model.count_params() == PARAMETERS["vit_ti16"]


def test_macs_from_the_formula():
    # One block of n tokens of width d: 4 n d^2 for the projections, 2 n^2 d for the products, 2 n d m for the MLP.
    n, d, m, patch = 197, 192, 768, 16 * 16 * 3
    expected = 196 * patch * d + 12 * (4 * n * d * d + 2 * n * n * d + 2 * n * d * m) + d * 1000
    assert keras_vit.model_info("vit_ti16")["macs"] == expected


def test_model_info_at_another_size():
    info = keras_vit.model_info("vit_b16", input_shape=(384, 384, 3))
    assert info["image_size"] == (384, 384) and info["parameters"] == 86_859_496


def test_arguments_are_those_of_keras_applications_in_order():
    import inspect

    names = list(inspect.signature(keras_vit.ViT_B16).parameters)[:8]
    assert names == [
        "include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation", "name",
    ]  # fmt: skip
    assert inspect.signature(keras_vit.ViT_B16).parameters["width"].default == 768
    assert keras_vit.ViT_Ti16.__name__ == "ViT_Ti16" and "Ti/16" in keras_vit.ViT_Ti16.__doc__


def test_probabilities_by_default_and_logits_when_asked():
    image = np.random.default_rng(0).random((3, 16, 16, 1), "float32")
    probabilities = np.asarray(tiny()(image))
    assert probabilities.shape == (3, 5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert tiny(classifier_activation=None).layers[-1].name == "head"


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 17, 24)), ("token", (None, 24)), ("avg", (None, 24))])
def test_without_the_top(pooling, shape):
    assert tiny(include_top=False, pooling=pooling).output_shape == shape


def test_average_pooling_leaves_the_class_token_out():
    tokens = tiny(include_top=False)
    pooled = tiny(include_top=False, pooling="avg")
    pooled.set_weights(tokens.get_weights())
    image = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    np.testing.assert_allclose(pooled(image), np.asarray(tokens(image))[:, 1:].mean(1), atol=1e-6)


def test_input_tensor():
    image = keras.Input((16, 16, 1))
    doubled = keras.layers.Rescaling(2.0)(image)
    settings = {**TINY, "input_shape": None}
    model = keras_vit.ViT(input_tensor=doubled, **settings)
    plain = tiny()
    plain.set_weights(model.get_weights())
    x = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    np.testing.assert_allclose(model(x), plain(2 * x), atol=1e-6)


def test_preprocessing_in_the_graph():
    inside, outside = tiny(include_preprocessing=True), tiny()
    outside.set_weights(inside.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1)).astype("float32")
    np.testing.assert_allclose(inside(pixels), outside(pixels / 127.5 - 1), atol=1e-5)


def test_stochastic_depth_rises_linearly_from_zero():
    model = tiny(depth=3, drop_path_rate=0.2)
    rates = [model.get_layer(f"block_{i}").drop_path1.rate for i in range(3)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2])


@pytest.mark.parametrize("settings", [{}, {"layer_scale": 0.1, "representation_size": 12, "drop_path_rate": 0.1}])
def test_saving_and_loading(settings, tmp_path):
    model = tiny(**settings)
    x = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(x), model(x))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    mixed, full = tiny(dtype=policy), tiny()
    mixed.set_weights(full.get_weights())
    x = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    assert mixed.get_layer("block_0").attention.query.compute_dtype == policy.removeprefix("mixed_")
    outputs = np.asarray(mixed(x))
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, full(x), atol=2e-2)


class TestBadInput:
    def test_an_image_that_the_patch_does_not_divide(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 16 x 16; 224 x 224 would do"):
            keras_vit.ViT_Ti16(input_shape=(225, 224, 3))

    @pytest.mark.parametrize("shape", [(224, 224), (None, None, 3), (0, 16, 3)])
    def test_a_shape_that_is_none(self, shape):
        with pytest.raises(ValueError, match=r"\(height, width, channels\)"):
            keras_vit.ViT_Ti16(input_shape=shape)

    def test_channels_first_by_shape(self):
        with pytest.raises(ValueError, match="channels-last"):
            keras_vit.ViT_Ti16(input_shape=(3, 224, 224))

    def test_channels_first_by_setting(self):
        keras.config.set_image_data_format("channels_first")
        try:
            with pytest.raises(ValueError, match="channels_last"):
                keras_vit.ViT_Ti16()
        finally:
            keras.config.set_image_data_format("channels_last")

    def test_an_unknown_name_gives_the_nearest(self):
        with pytest.raises(ValueError, match=r"'vit_b15'.*vit_b1?6"):
            keras_vit.create_model("vit_b15")

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(ValueError, match="5 heads do not divide 24"):
            tiny(num_heads=5)

    def test_pooling(self):
        with pytest.raises(ValueError, match="received 'mean'"):
            tiny(include_top=False, pooling="mean")

    def test_weights_that_are_no_file(self):
        with pytest.raises(ValueError, match="'imagenet' is neither a file nor weights of 'vit_ti16'"):
            keras_vit.ViT_Ti16(weights="imagenet")
        with pytest.raises(ValueError, match="'imagenet' is not a file"):
            tiny(weights="imagenet")
