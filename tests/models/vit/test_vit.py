"""ViT: costs, pooling, options and errors."""

import inspect

import keras
import numpy as np
import pytest

import keras_vit


def macs(patch, width, depth, mlp_dim, size=224):
    """Compute the multiply-accumulates by formula, with a class token and 1000 classes."""
    patches = (size // patch) ** 2
    n, d, m = patches + 1, width, mlp_dim
    # A block of n tokens: 4 n d^2 for the projections, 2 n^2 d for the products of activations, 2 n d m for the MLP.
    return patches * 3 * patch**2 * d + depth * (4 * n * d * d + 2 * n * n * d + 2 * n * d * m) + 1000 * d


# By name and image size: parameters with a class token and 1000 classes, and multiply-accumulates. The sizes that timm
# has agree with it; L/32 and H/14 have no classifier there.
COSTS = {
    ("vit_ti16", 224): (5_717_416, 1_253_683_200),
    ("vit_ti16", 384): (5_790_376, 4_682_219_520),
    ("vit_s32", 224): (22_878_952, 1_142_909_952),
    ("vit_s32", 384): (22_915_432, 3_442_900_992),
    ("vit_s16", 224): (22_050_664, 4_598_882_304),
    ("vit_s16", 384): (22_196_584, 15_490_351_104),
    ("vit_b32", 224): (88_224_232, 4_409_186_304),
    ("vit_b32", 384): (88_297_192, 13_043_564_544),
    ("vit_b28", 224): (87_682_792, macs(28, 768, 12, 3072)),
    ("vit_b16", 224): (86_567_656, 17_563_828_224),
    ("vit_b16", 384): (86_859_496, 55_484_350_464),
    ("vit_b8", 224): (86_576_872, 78_148_337_664),
    ("vit_l32", 224): (306_535_400, 15_376_515_072 + 1000 * 1024),
    ("vit_l32", 384): (306_632_680, 45_275_963_392),
    ("vit_l16", 224): (304_326_632, 61_554_712_576),
    ("vit_l16", 384): (304_715_752, 191_066_300_416),
    ("vit_h14", 224): (632_045_800, 167_293_829_120 + 1000 * 1280),
    ("vit_g14", 224): (1_012_611_432, 267_031_491_584),
    ("vit_gg14", 224): (1_844_440_680, 483_747_550_208),
    ("vit_xs28", 224): (5_615_336, macs(28, 256, 6, 1024)),
    ("vit_xs16", 224): (5_243_624, macs(16, 256, 6, 1024)),
}
# From the paper's table: GFLOPs of the backbone at 384 (364 or 378 if 384 is not a multiple of the patch), rounded to a
# tenth, with two for each multiply-accumulate; and parameters of the backbone with attention pooling and a classifier
# for 1000 classes.
SCALING = {
    "vit_xs28": (2.0, 6_404_328),
    "vit_xs16": (7.8, 6_032_616),
    "vit_s32": (6.9, 24_652_264),
    "vit_ti16": (9.5, 6_161_704),
    "vit_b32": (26.0, 95_309_800),
    "vit_s16": (31.2, 23_823_976),
    "vit_b28": (30.5, 94_768_360),
    "vit_b16": (111.3, 93_653_224),
    "vit_l16": (382.8, 316_919_784),
    "vit_g14": (1596.4, 1_037_857_384),
    "vit_gg14": (2859.9, 1_882_797_416),
}
TINY = dict(input_shape=(16, 16, 1), patch_size=4, width=24, depth=2, num_heads=3, classes=5)


def tiny(**settings):
    return keras_vit.ViT(**{**TINY, **settings})


@pytest.mark.parametrize(("name", "size"), COSTS)
def test_parameters_and_macs(name, size):
    info = keras_vit.model_info(name, input_shape=(size, size, 3))
    assert info["image_size"] == (size, size)
    assert (info["parameters"], info["macs"]) == COSTS[name, size]


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("vit_*") == sorted({name for name, _ in COSTS})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "g" in name else []) for name in SCALING]
)
def test_scaling_vision_transformers(name):
    gflops, parameters = SCALING[name]
    assert keras_vit.model_info(name, class_token=False, pooling="map")["parameters"] == parameters
    size = {"28": 364, "14": 378}.get(name[-2:], 384)
    backbone = dict(class_token=False, pooling="avg", include_top=False)
    found = keras_vit.model_info(name, input_shape=(size, size, 3), **backbone)["macs"]
    # The table also counts elementwise operations, which matter most if the tokens are narrow.
    assert 2e-9 * found == pytest.approx(gflops, rel=0.02)


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("vit_b16", 1000, 87_158_248),
        ("vit_b32", 21_843, 104_843_091),
        ("vit_l16", 21_843, 326_740_307),
        ("vit_l32", 1000, 307_585_000),
        ("vit_h14", 21_843, 660_385_363),
    ],
)
def test_parameters_with_a_representation_layer(name, classes, parameters):
    width = {"b": 768, "l": 1024, "h": 1280}[name[4]]
    info = keras_vit.model_info(name, classes=classes, representation_size=width)
    assert info["parameters"] == parameters


def test_model_info_agrees_with_a_built_model():
    model = keras_vit.ViT_Ti16()
    assert model.count_params() == COSTS["vit_ti16", 224][0]


def test_a_variants_function_has_its_settings_as_defaults():
    assert inspect.signature(keras_vit.ViT_B16).parameters["width"].default == 768
    assert keras_vit.ViT_Ti16.__name__ == "ViT_Ti16" and "Ti/16" in keras_vit.ViT_Ti16.__doc__


def test_probabilities_by_default_and_logits_on_request():
    image = np.random.default_rng(0).random((3, 16, 16, 1), "float32")
    probabilities = np.asarray(tiny()(image))
    assert probabilities.shape == (3, 5)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert tiny(classifier_activation=None).layers[-1].name == "head"


@pytest.mark.parametrize(("pooling", "shape"), [(None, (None, 17, 24)), ("token", (None, 24)), ("avg", (None, 24))])
def test_without_the_top(pooling, shape):
    assert tiny(include_top=False, pooling=pooling).output_shape == shape


def test_average_pooling_ignores_the_class_token():
    tokens = tiny(include_top=False)
    pooled = tiny(include_top=False, pooling="avg")
    pooled.set_weights(tokens.get_weights())
    image = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    np.testing.assert_allclose(pooled(image), np.asarray(tokens(image))[:, 1:].mean(1), atol=1e-6)


@pytest.mark.parametrize("norm_after_pooling", [False, True])
@pytest.mark.parametrize(("pooling", "rows"), [("token", slice(0, 1)), ("avg", slice(3, None))])
def test_poolings_with_registers(pooling, rows, norm_after_pooling):
    settings = dict(num_registers=2, include_top=False)
    tokens, pooled = tiny(**settings), tiny(**settings, pooling=pooling, norm_after_pooling=norm_after_pooling)
    pooled.set_weights(tokens.get_weights())
    image = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    expected = np.asarray(tokens(image))
    assert expected.shape == (2, 19, 24)
    if norm_after_pooling:
        before = keras.Model(tokens.input, tokens.get_layer("block_1").output)
        mean = np.asarray(before(image))[:, rows].mean(1)
        expected = (mean - mean.mean(1, keepdims=True)) / np.sqrt(mean.var(1, keepdims=True) + 1e-6)
    else:
        expected = expected[:, rows].mean(1)
    np.testing.assert_allclose(pooled(image), expected, atol=1e-4)


def test_the_top_takes_any_pooling():
    image = np.random.default_rng(0).random((2, 16, 16, 1), "float32")
    for pooling in ("token", "avg", "map"):
        features, scores = tiny(include_top=False, pooling=pooling), tiny(pooling=pooling, classifier_activation=None)
        scores.set_weights(features.get_weights() + scores.get_layer("head").get_weights())
        kernel, bias = scores.get_layer("head").get_weights()
        np.testing.assert_allclose(scores(image), np.asarray(features(image)) @ kernel + bias, atol=1e-5)


def test_registers_have_no_position():
    rows = {
        (on, registers): tiny(position_on_class_token=on, num_registers=registers).get_layer("position_embedding")
        for on in (True, False)
        for registers in (0, 3)
    }
    assert [layer.table.shape[1] for layer in rows.values()] == [17, 17, 16, 16]


def test_a_head_initialized_to_zero():
    head = tiny(head_initializer="zeros").get_layer("head")
    assert not np.any(head.kernel) and np.any(tiny().get_layer("head").kernel)


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
    def test_an_image_size_that_is_not_a_multiple_of_the_patch(self):
        with pytest.raises(ValueError, match=r"225 x 224 .* 16 x 16; 224 x 224 would do"):
            keras_vit.ViT_Ti16(input_shape=(225, 224, 3))

    @pytest.mark.parametrize("shape", [(224, 224), (None, None, 3), (0, 16, 3)])
    def test_an_invalid_input_shape(self, shape):
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

    def test_an_unknown_name_suggests_the_nearest(self):
        with pytest.raises(ValueError, match=r"'vit_b15'.*vit_b1?6"):
            keras_vit.create_model("vit_b15")

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(ValueError, match="num_heads=5 and width=24"):
            tiny(num_heads=5)

    def test_the_class_token_of_a_model_without_one(self):
        with pytest.raises(ValueError, match="Without a class token, pooling must be 'avg' or 'map'"):
            tiny(class_token=False)

    def test_a_norm_after_pooling_needs_a_pooling(self):
        with pytest.raises(ValueError, match="norm_after_pooling needs a pooling"):
            tiny(include_top=False, norm_after_pooling=True)

    def test_an_unknown_kind_of_positions(self):
        with pytest.raises(ValueError, match="received 'rotary'"):
            tiny(position_embedding="rotary")

    def test_pooling(self):
        with pytest.raises(ValueError, match="'map' or None; received 'mean'"):
            tiny(pooling="mean")

    def test_weights_that_are_not_a_file(self):
        with pytest.raises(ValueError, match="'imagenet' is neither a file nor weights of 'vit_ti16'"):
            keras_vit.ViT_Ti16(weights="imagenet")
        with pytest.raises(ValueError, match="'imagenet' is not a file"):
            tiny(weights="imagenet")
