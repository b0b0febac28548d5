"""DeiT and DeiT III: costs, heads, pooling and errors."""

import keras
import numpy as np
import pytest

import keras_vit

# By name and image size: parameters with 1000 classes, and multiply-accumulates (DeiT III: rounded as in its table 1).
COSTS = {
    ("deit_ti16", 224): (5_717_416, 1_253_683_200),
    ("deit_s16", 224): (22_050_664, 4_598_882_304),
    ("deit_b16", 224): (86_567_656, 17_563_828_224),
    ("deit_b16", 384): (86_859_496, 55_484_350_464),
    ("deit_ti16_distilled", 224): (5_910_800, 1_261_003_776),
    ("deit_s16_distilled", 224): (22_436_432, 4_624_140_288),
    ("deit_b16_distilled", 224): (87_338_192, 17_656_811_520),
    ("deit_b16_distilled", 384): (87_630_032, 55_591_342_080),
    ("deit3_s16", 224): (22_059_496, 4.6e9),
    ("deit3_s16", 384): (22_205_416, 15.5e9),
    ("deit3_m16", 224): (38_849_512, 8.0e9),
    ("deit3_b16", 224): (86_585_320, 17.5e9),
    ("deit3_b16", 384): (86_877_160, 55.5e9),
    ("deit3_l16", 224): (304_374_760, 61.6e9),
    ("deit3_l16", 384): (304_763_880, 191.2e9),
    ("deit3_h14", 224): (632_126_440, 167.4e9),
}
TINY = dict(input_shape=(16, 16, 3), patch_size=4, width=24, depth=3, num_heads=3, classes=5)
IMAGES = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype("float32")


def distilled(**settings):
    return keras_vit.DeiT(distilled=True, **{**TINY, **settings})


@pytest.mark.parametrize(("name", "size"), COSTS)
def test_parameters_and_macs(name, size):
    info = keras_vit.model_info(name, input_shape=(size, size, 3))
    parameters, macs = COSTS[name, size]
    assert info["parameters"] == parameters
    assert info["macs"] == pytest.approx(macs, rel=0.01)


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("deit*") == sorted({name for name, _ in COSTS})


class TestDistilled:
    def test_it_gives_the_mean_of_the_logits(self):
        heads = distilled(distillation_outputs=True)
        of_class, of_distillation = map(np.asarray, heads(IMAGES))
        assert of_class.shape == of_distillation.shape == (2, 5) and not np.allclose(of_class, of_distillation)
        averaged = keras_vit.average_heads(heads, classifier_activation=None)
        np.testing.assert_allclose(averaged(IMAGES), (of_class + of_distillation) / 2, atol=1e-6)

    def test_the_activation_comes_after_the_mean(self):
        logits, probabilities = distilled(classifier_activation=None), distilled()
        probabilities.set_weights(logits.get_weights())
        expected = np.exp(logits(IMAGES))
        np.testing.assert_allclose(probabilities(IMAGES), expected / expected.sum(1, keepdims=True), atol=1e-6)

    def test_both_models_share_their_weights(self):
        heads = distilled(distillation_outputs=True)
        averaged = keras_vit.average_heads(heads)
        before = np.asarray(averaged(IMAGES))
        heads.compile("sgd", ["mse", "mse"])
        heads.fit(IMAGES, [np.ones((2, 5)), np.ones((2, 5))], verbose=0)
        assert not np.allclose(averaged(IMAGES), before)
        assert [v.path for v in averaged.weights] == [v.path for v in heads.weights]

    def test_the_distillation_token_follows_the_class_token(self):
        model = distilled(include_top=False, depth=0)
        flat = {variable.path: variable for variable in model.weights}
        for path, variable in flat.items():
            variable.assign(np.zeros(variable.shape))
            if path.endswith("token/token"):
                variable.assign(np.arange(24).reshape(1, 1, 24) * (1 if path.startswith("class") else -1))
            if path.endswith("gamma"):
                variable.assign(np.ones(variable.shape))
        tokens = np.asarray(model(IMAGES))
        assert model.output_shape == (None, 18, 24)
        assert tokens[0, 0, -1] > 1 and tokens[0, 1, -1] < -1 and not tokens[0, 2:].any()

    @pytest.mark.parametrize(("pooling", "rows"), [("token", slice(0, 1)), ("avg", slice(2, None))])
    def test_pooling_without_the_top(self, pooling, rows):
        tokens, pooled = distilled(include_top=False), distilled(include_top=False, pooling=pooling)
        pooled.set_weights(tokens.get_weights())
        np.testing.assert_allclose(pooled(IMAGES), np.asarray(tokens(IMAGES))[:, rows].mean(1), atol=1e-6)

    def test_two_outputs_need_two_heads(self):
        with pytest.raises(ValueError, match="received distilled=False"):
            keras_vit.DeiT(distillation_outputs=True, **TINY)

    def test_averaging_needs_two_outputs(self):
        with pytest.raises(ValueError, match="'deit' has 1"):
            keras_vit.average_heads(distilled())

    def test_a_file_with_other_classes_does_not_change_the_heads(self, tmp_path):
        from safetensors.numpy import save_file

        from tests.reference import timm_weights

        arrays = timm_weights("deit_tiny_distilled_patch16_224")
        path = tmp_path / "deit.safetensors"
        kept = {name: array for name, array in arrays.items() if not name.startswith("blocks.")}
        kept |= {name: array for name, array in arrays.items() if name.startswith("blocks.0.")}
        save_file(kept, path)
        model = keras_vit.DeiT_Ti16_Distilled(classes=7, depth=1)
        left = keras_vit.load_weights(model, path, head=False).left_as_it_was
        assert sorted(left) == ["head/bias", "head/kernel", "head_dist/bias", "head_dist/kernel"]


class TestDeiT3:
    def test_the_class_token_has_no_position(self):
        model = keras_vit.DeiT3(**TINY)
        assert model.get_layer("position_embedding").table.shape == (1, 16, 24)
        assert keras_vit.DeiT(**TINY).get_layer("position_embedding").table.shape == (1, 17, 24)

    def test_stochastic_depth_is_the_same_in_every_block(self):
        for builder, expected in ((keras_vit.DeiT3, [0.2, 0.2, 0.2]), (keras_vit.DeiT, [0, 0.1, 0.2])):
            model = builder(drop_path_rate=0.2, **TINY)
            np.testing.assert_allclose([model.get_layer(f"block_{i}").drop_path1.rate for i in range(3)], expected)

    def test_layer_scale_starts_at_the_authors_value(self):
        np.testing.assert_allclose(keras_vit.DeiT3(**TINY).get_layer("block_0").layer_scale1.gamma, 1e-4)


@pytest.mark.parametrize("builder", [keras_vit.DeiT, keras_vit.DeiT3])
def test_preprocessing_is_imagenets(builder):
    inside, outside = builder(include_preprocessing=True, **TINY), builder(**TINY)
    outside.set_weights(inside.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(inside(pixels), outside((pixels / 255 - mean) / std), atol=1e-5)


@pytest.mark.parametrize("builder", [keras_vit.DeiT, keras_vit.DeiT3])
def test_pooling_with_the_top(builder):
    with pytest.raises(ValueError, match=r"takes the class token.*received 'avg'"):
        builder(pooling="avg", **TINY)


def test_a_distilled_model_with_two_outputs_saves_and_loads(tmp_path):
    model = distilled(distillation_outputs=True)
    model.save(tmp_path / "model.keras")
    for ours, theirs in zip(keras.models.load_model(tmp_path / "model.keras")(IMAGES), model(IMAGES), strict=True):
        np.testing.assert_array_equal(ours, theirs)
