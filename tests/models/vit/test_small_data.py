"""ViT for small data sets: costs, attention maps, features, fusing and export."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge, training
from keras_vit.graph.flattening import leaves
from keras_vit.models.info import count_macs

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(64, 16, 24, 3)).astype("float32")


def vit(**settings):
    """Build a small model with random weights, and temperatures within a factor of two of the initial one."""
    model = keras_vit.ViT(
        **{"input_shape": (16, 24, 3), "patch_size": 4, "width": 24, "depth": 2, "num_heads": 3, "classes": 5}
        | {"classifier_activation": None, "shifted_patches": True, "locality": True}
        | settings
    )
    random = np.random.default_rng(1)
    for variable in model.trainable_weights:
        spread = variable.shape[-2] ** -0.5 if len(variable.shape) > 1 else 0.1
        variable.assign(spread * random.normal(size=variable.shape) + (variable.name == "gamma"))
    for name, layer in leaves(model):
        if name.endswith("attention.scale") and layer.weights:
            layer.gamma.assign(24**-0.5 * random.uniform(1, 3, size=3))
    return model


def recipe_model(image_size, classes, **settings):
    settings = {**training.recipe(f"vit_small_data_{image_size}").model_settings, **settings}
    return keras_vit.ViT(input_shape=(image_size, image_size, 3), classes=classes, **settings)


@pytest.mark.parametrize(("image_size", "patch", "classes"), [(64, 8, 200), (32, 4, 100)])
def test_parameters_by_hand(image_size, patch, classes):
    values = 5 * 3 * patch**2
    # Norm, projection, class token, and 8 x 8 + 1 positions.
    embedding = 2 * values + 192 * values + 192 + 192 + 65 * 192
    attention = 3 * 192 * 192 + 192 * 192 + 192 + 12  # Only the projection has a bias; 12 temperatures.
    mlp = 2 * 192 * 384 + 384 + 192
    expected = embedding + 9 * (attention + mlp + 4 * 192) + 2 * 192 + 192 * classes + classes
    assert recipe_model(image_size, classes).count_params() == expected


def test_multiply_accumulates_as_published():
    """The authors' README gives 189.8 and 199.2 million for Tiny-ImageNet."""
    plain = count_macs(recipe_model(64, 200, shifted_patches=False, locality=False))
    both = count_macs(recipe_model(64, 200))
    assert plain / 1e6 == pytest.approx(189.8, rel=2e-3) and both / 1e6 == pytest.approx(199.2, rel=2e-3)
    assert (both - plain) / 1e6 == pytest.approx(199.2 - 189.8, abs=0.1)


def test_each_option_alone():
    both, plain = vit(), vit(shifted_patches=False, locality=False)
    names = [{name for name, layer in leaves(model) if layer.weights} for model in (both, plain)]
    assert names[0] - names[1] == {"patch_embedding.norm", "block_0.attention.scale", "block_1.attention.scale"}
    assert vit(locality=False).count_params() - plain.count_params() == 4 * 48 * 24 + 2 * 240
    assert vit(shifted_patches=False).count_params() - plain.count_params() == 2 * 3


@pytest.mark.parametrize("change", [lambda model: model, keras_vit.fuse])
def test_attention_maps_have_a_zero_diagonal(change):
    maps = keras_vit.attention_maps(change(vit()), IMAGES[:3])
    assert list(maps) == ["block_0", "block_1"]
    for array in maps.values():
        assert array.shape == (3, 3, 25, 25)
        np.testing.assert_array_equal(array[..., range(25), range(25)], 0)
        np.testing.assert_allclose(array.sum(-1), 1, atol=1e-5)
    plain = keras_vit.attention_maps(vit(locality=False), IMAGES[:3])["block_0"]
    assert plain[..., range(25), range(25)].min() > 0


def test_features_and_attention():
    model = vit()
    rollout = keras_vit.attention_rollout(model, IMAGES[:3])
    assert rollout.shape == (3, 4, 6) and rollout.min() > 0
    features = keras_vit.feature_extractor(model, ["patch_embedding", "block_1"])(IMAGES[:3])
    assert [tuple(array.shape) for array in features.values()] == [(3, 4, 6, 24)] * 2
    tokens = np.asarray(model.get_layer("patch_embedding")(IMAGES[:3]))
    np.testing.assert_allclose(features["patch_embedding"], tokens.reshape(3, 4, 6, 24), atol=1e-6)


def test_another_image_size():
    model = vit()
    larger = keras_vit.resize_model(model, (32, 32, 3))
    assert larger.input_shape == (None, 32, 32, 3)
    assert keras_vit.attention_maps(larger, RANDOM.normal(size=(1, 32, 32, 3)))["block_0"].shape == (1, 3, 65, 65)
    back = keras_vit.resize_model(larger, (16, 24, 3))
    for (name, old), (_, new) in zip(leaves(model), leaves(back), strict=True):
        if "position" not in name:
            for before, after in zip(old.weights, new.weights, strict=True):
                np.testing.assert_array_equal(before, after, err_msg=name)


def test_fusing_removes_the_temperature_and_the_mean():
    model = vit()
    fused = keras_vit.fuse(model)
    np.testing.assert_allclose(fused(IMAGES), model(IMAGES), atol=1e-5)
    kinds = [type(layer) for layer in fused.layers]
    assert keras_vit.layers.HeadScale not in kinds and kinds.count(keras_vit.layers.DiagonalMask) == 2
    # Only the norm of the pixels subtracts a mean. Those of the tokens are folded into the layers that write them.
    norms = [layer for layer in fused.layers if isinstance(layer, keras_vit.layers.LayerNorm)]
    assert [layer.name for layer in norms if layer.subtract_mean] == ["patch_embedding.norm"]


def test_weights_of_an_ordinary_vit_are_refused(tmp_path):
    from tests.reference import timm_file

    path = timm_file("vit_tiny_patch16_224", tmp_path)
    for settings in ({"shifted_patches": True}, {"locality": True}):
        with pytest.raises(ValueError, match="no family of keras_vit has"):
            keras_vit.ViT_Ti16(weights=path, **settings)


@pytest.fixture(scope="module")
def trained():
    """Return a quantized model after a few training steps that change its ranges and temperatures."""
    keras.utils.set_random_seed(0)
    model = edge.quantize_aware(vit(), calibration_data=IMAGES)
    labels = np.eye(5)[np.argmax(vit(locality=False)(IMAGES), axis=1)]
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.CategoricalCrossentropy(from_logits=True))
    losses = model.fit(IMAGES, labels, epochs=5, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    return model


def test_a_hybrid_file_gives_the_outputs_of_the_quantized_model(trained, tmp_path):
    file = edge.export(trained, tmp_path / "model.tflite", "hybrid_int8")
    result = edge.verify(trained, file, IMAGES)
    assert result.snr_db > 25 and result.top1_agreement > 0.95
    audit = edge.audit(file)
    assert audit.partitions == 1 and audit.findings == []
    # Eight products for each block, plus embedding and head, as in an ordinary ViT: temperature and mask add none.
    assert audit.ops["FULLY_CONNECTED"] == 2 * 6 + 2 and audit.ops["BATCH_MATMUL"] == 2 * 2
    # Image and mask are not int8. Each block has four parts in float, after the norm of the embedding.
    assert audit.ops["QUANTIZE"] == audit.ops["DEQUANTIZE"] == 2 * 4 + 2


def test_the_int8_range_of_the_scores_ignores_the_mask(trained):
    fused = keras_vit.fuse(vit())
    scores = keras.Model(fused.input, fused.get_layer("block_0.attention.scores").output)(IMAGES)
    quantized = edge.quantize_aware(vit(), calibration_data=IMAGES, ranges="min_max")
    limit = quantized.get_layer("block_0.attention.scores.fake_quant").range[1]
    assert limit == pytest.approx(np.max(scores), rel=1e-4) and limit < 100
    for model in (quantized, trained):
        for array in keras_vit.attention_maps(model, IMAGES[:4]).values():
            np.testing.assert_array_equal(array[..., range(25), range(25)], 0)


@pytest.mark.parametrize("precision", ["dynamic_int8", pytest.param("float16", marks=pytest.mark.slow)])
def test_float_files(precision, tmp_path):
    model = vit()
    file = edge.export(model, tmp_path / "model.tflite", precision)
    error = {"float16": 5e-3, "dynamic_int8": 0.1}[precision]
    assert edge.verify(model, file, IMAGES).max_relative_error < error
    audit = edge.audit(file)
    assert audit.partitions == 1
    assert not [finding for finding in audit.findings if finding.severity != "info"]
