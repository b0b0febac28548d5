"""Mobile-Former: parameters, outputs, training, weights and export."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge, layers
from keras_vit.models.mobile_former.channel_shuffle import ChannelShuffle
from keras_vit.models.mobile_former.mobile_former_block import MobileFormerBlock
from tests.reference import fixture, images, relative_error, timm_file

# Measured with the authors' code: multiply-accumulates at 224 x 224, all parameters, and those of each block in order.
COSTS = {
    "26m": (23_550_208, 3_232_788, (360, 121_284, 132_960, 134_904, 159_840, 171_552, 193_088, 235_520, 281_280)),
    "52m": (49_290_496, 3_469_092, (576, 121_932, 135_984, 137_496, 171_936, 185_376, 217_280, 290_816, 364_224)),
    "96m": (92_017_040, 4_585_252, (576, 129_568, 147_072, 148_832, 200_384, 219_328, 269_728, 388_800, 498_752)),
    "151m": (
        146_249_168,
        7_595_828,
        (576, 272_192, 269_040, 295_328, 299_136, 362_976, 390_112, 451_776, 530_304, 589_280, 722_784, 722_784),
    ),
    "214m": (
        208_374_240,
        9_425_920,
        (576, 276_360, 276_276, 310_896, 326_896, 402_176, 437_376, 524_192, 641_184, 722_080, 904_416, 904_416),
    ),
    "294m": (
        286_732_160,
        11_422_648,
        (896, 286_160, 289_872, 327_360, 346_944, 444_960, 488_736, 596_576, 722_784, 853_216, 1_110_624, 1_110_624),
    ),
    "508m": (
        498_467_680,
        13_976_976,
        (1_728, 316_784, 315_336, 388_784, 387_816, 557_280, 603_744, 778_272, 1_004_448, 1_140_928, 1_466_016,
         1_466_016),
    ),
}  # fmt: skip
BRIDGES = {
    "26m": 37_440,
    "52m": 37_440,
    "96m": 49_792,
    "151m": 74_560,
    "214m": 93_056,
    "294m": 111_552,
    "508m": 139_296,
}
TINY = {
    "input_shape": (32, 32, 3),
    "stem_channels": 8,
    "lite_row": (16, 8, 1),
    "rows": ((48, 16, 2), (32, 16, 1), (48, 24, 1)),
    "num_tokens": 3,
    "token_width": 16,
    "head_width": 20,
    "classes": 5,
    "classifier_activation": None,
}
IMAGES = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")


def tiny(**settings):
    """Build a small model with every kind of block, and random weights and running statistics."""
    model = keras_vit.MobileFormer(**{**TINY, **settings})
    random = np.random.default_rng(1)
    for variable in model.weights:
        values = random.normal(size=variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(1 + 0.4 * np.tanh(values))
        elif len(variable.shape) > 1 and variable.name != "tokens":
            variable.assign(values * np.prod(variable.shape[:-1]) ** -0.5)
        else:
            variable.assign(values * (1 if variable.name == "tokens" else 0.2))
    return model


def trainable(layer):
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_weights)


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[pytest.mark.slow] if size not in ("26m", "294m") else []) for size in COSTS]
)
def test_parameters_block_by_block_and_macs(size):
    model = keras_vit.create_model(f"mobile_former_{size}")
    macs, parameters, blocks = COSTS[size]
    assert tuple(trainable(model.get_layer(f"block_{i}")) for i in range(len(blocks))) == blocks
    assert trainable(model.get_layer("bridge")) == BRIDGES[size]
    assert trainable(model) == parameters
    assert keras_vit.count_macs(model) == macs


def test_every_variant_has_its_costs():
    assert keras_vit.list_models("mobile_former_*") == sorted(f"mobile_former_{size}" for size in COSTS)
    info = keras_vit.model_info("mobile_former_26m", classes=10)
    assert info["family"] == "MobileFormer" and info["parameters"] == COSTS["26m"][1] - 990 * (1024 + 1)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    weights = timm_file("mobile_former_26m", tmp_path_factory.mktemp("weights"))
    return keras_vit.MobileFormer_26M(classifier_activation=None, weights=weights)


def without_shuffles(model, patch):
    patch.setattr(ChannelShuffle, "call", lambda self, features: features)


def two_heads_in_the_formers(model, patch):
    for block in blocks(model):
        patch.setattr(block.former, "num_heads", 2)
        patch.setattr(block.former.scale, "factor", (block.former.width // 2) ** -0.5)


def without_gates(model, patch):
    for block in blocks(model):
        patch.setattr(block.mobile_to_former.multiply, "call", lambda pair: pair[0])


def bridges_before_the_shortcuts(model, patch):
    def call(self, features, tokens):
        tokens = self.former(self.mobile_to_former(features, tokens))
        x = self.mobile(features, self.token(tokens))
        shortcut = features if x.shape == features.shape and hasattr(self.mobile, "expand") else 0
        return self.former_to_mobile(x - shortcut, tokens) + shortcut, tokens

    patch.setattr(MobileFormerBlock, "call", call)


def slopes_from_the_token_before_the_former(model, patch):
    def call(self, features, tokens):
        gathered = self.mobile_to_former(features, tokens)
        tokens = self.former(gathered)
        return self.former_to_mobile(self.mobile(features, self.token(gathered)), tokens), tokens

    patch.setattr(MobileFormerBlock, "call", call)


def slopes_from_the_last_token(model, patch):
    patch.setattr(layers.TokenPooling, "call", lambda self, tokens: tokens[:, -1])


def blocks(model):
    return [layer for layer in model.layers if isinstance(layer, MobileFormerBlock)]


@pytest.mark.parametrize(
    "mistake",
    [
        without_shuffles,
        two_heads_in_the_formers,
        without_gates,
        bridges_before_the_shortcuts,
        slopes_from_the_token_before_the_former,
        slopes_from_the_last_token,
    ],
)
def test_the_comparison_with_the_reference_detects_mistakes_that_keep_the_parameters(mistake, smallest, monkeypatch):
    image, expected = images(224)[:1], fixture("mobile_former_26m")["logits"][:1]
    assert relative_error(np.asarray(smallest(image)), expected) < 1e-5
    mistake(smallest, monkeypatch)
    assert relative_error(np.asarray(smallest(image)), expected) > 1e-3


@pytest.mark.parametrize("size", [192, 225, 256])
def test_any_image_size(size):
    image = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    model = tiny(input_shape=(size, size, 3))
    scores = np.asarray(model(image))
    assert np.all(np.isfinite(scores)) and np.any(scores[0] != scores[1])
    half = -(-size // 2)
    maps = [model.get_layer("block_0").output, model.get_layer("block_1").output[0]]
    assert [x.shape[1:3] for x in maps] == [(half, half), (-(-half // 2), -(-half // 2))]


def test_the_stem_and_the_blocks_give_feature_maps():
    model = tiny()
    maps = [model.get_layer(name).output for name in ("stem", "block_0")]
    maps += [model.get_layer(f"block_{i}").output[0] for i in (1, 2, 3)]
    assert [tuple(x.shape[1:]) for x in maps] == [(16, 16, 8), (16, 16, 8), (8, 8, 16), (8, 8, 16), (8, 8, 24)]


def test_without_the_top_it_gives_the_last_feature_map():
    model, whole = tiny(include_top=False), tiny()
    for block in (f"block_{i}" for i in range(4)):
        model.get_layer(block).set_weights(whole.get_layer(block).get_weights())
    for layer in ("stem", "tokens"):
        model.get_layer(layer).set_weights(whole.get_layer(layer).get_weights())
    expected = keras.Model(whole.input, whole.get_layer("block_3").output[0])(IMAGES)
    np.testing.assert_array_equal(model(IMAGES), expected)


def test_average_pooling_gives_the_input_of_the_classifier():
    model, whole = tiny(include_top=False, pooling="avg"), tiny()
    assert model.output_shape == (None, 6 * 24 + 16)
    for layer in model.layers:
        layer.set_weights(whole.get_layer(layer.name).get_weights())
    x = np.asarray(model(IMAGES))
    hidden = x @ np.asarray(whole.get_layer("hidden").kernel) + np.asarray(whole.get_layer("hidden").bias)
    norm = whole.get_layer("hidden_norm")
    hidden = (hidden - norm.moving_mean) / np.sqrt(norm.moving_variance + 1e-5) * norm.gamma + norm.beta
    hidden = hidden * np.clip(hidden + 3, 0, 6) / 6
    head = whole.get_layer("head")
    np.testing.assert_allclose(whole(IMAGES), hidden @ np.asarray(head.kernel) + head.bias, rtol=1e-4, atol=1e-5)


def test_probabilities_by_default():
    probabilities = np.asarray(tiny(classifier_activation="softmax")(IMAGES))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_stochastic_depth_rises_linearly_with_the_blocks_number():
    model = tiny(drop_path_rate=0.4)
    parts = [
        lambda block: block.mobile_to_former.drop_path.rate,
        lambda block: block.former.drop_path.rate,
        lambda block: block.former_to_mobile.drop_path.rate,
    ]
    for part in parts:
        np.testing.assert_allclose([part(block) for block in blocks(model)], [0.1, 0.2, 0.3])
    assert [round(block.mobile.drop_path.rate, 6) for block in blocks(model)[:2]] == [0.1, 0.2]
    assert model.get_layer("bridge").drop_path.rate == pytest.approx(0.4)


def test_training_saving_and_loading(tmp_path):
    model = tiny(groups=4, drop_path_rate=0.1, dropout_rate=0.2)
    before = {variable.path: np.array(variable) for variable in model.weights}
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(IMAGES, np.arange(4), batch_size=2, verbose=0)
    unmoved = {v.path for v in model.weights if np.array_equal(before[v.path], np.array(v))}
    # A key's bias adds the same number to a position's scores for all tokens, which the softmax over them ignores.
    assert unmoved == {f"block_{i}/former_to_mobile/key/bias" for i in (1, 2, 3)}
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(IMAGES), model(IMAGES))


def test_fusing():
    model = tiny(groups=4, drop_path_rate=0.1)
    folded = keras_vit.fuse(model)
    assert relative_error(np.asarray(folded(IMAGES)), np.asarray(model(IMAGES))) < 1e-5
    kinds = [type(layer).__name__ for layer in folded.layers]
    assert not {"BatchNormalization", "DropPath", "Dropout"} & set(kinds)
    # The remaining constants: -1 in each dynamic ReLU, and 1/3 there and in each gate.
    assert kinds.count("Shift") == 6 and kinds.count("Scale") == 6 + 4
    # The tokens of the first block are the same for every image, and so are their query and gate.
    assert kinds.count("LearnedTokens") == 3
    # A depthwise convolution has several outputs for each channel only if it has a stride or is wide.
    assert {layer.strides for layer in folded.layers if getattr(layer, "depth_multiplier", 1) > 1} == {(2, 2)}


def test_the_authors_weights_without_the_top_or_with_another_one(tmp_path):
    weights = timm_file("mobile_former_26m", tmp_path)
    settings = {"input_shape": (32, 32, 3)}
    features = keras_vit.MobileFormer_26M(include_top=False, **settings)
    report = keras_vit.load_weights(features, weights)
    assert {name.split(".")[0] for name in report.unused} == {"local_global", "classifier"}
    other = keras_vit.MobileFormer_26M(classes=7, **settings)
    assert keras_vit.load_weights(other, weights, head=False).left_as_it_was == ["head/kernel", "head/bias"]
    with pytest.raises(ValueError, match=r"1000 classes .* has 7"):
        keras_vit.load_weights(other, weights)
    with pytest.raises(ValueError, match="another model"):
        keras_vit.load_weights(keras_vit.MobileFormer_52M(**settings), weights)


class TestOnADevice:
    @pytest.mark.slow
    def test_294m_is_one_partition(self, tmp_path):
        weights = timm_file("mobile_former_294m", tmp_path)
        self.check(keras_vit.MobileFormer_294M(classifier_activation=None, weights=weights), tmp_path, images(224))

    def test_the_int8_file_rounds_as_the_quantized_model(self, tmp_path):
        # Only one block, because a number that is rounded the other way matters more after each further block.
        model = tiny(rows=((48, 16, 2),))
        image = np.random.default_rng(1).normal(size=(32, 32, 32, 3)).astype("float32")
        quantized = edge.quantize_aware(model, calibration_data=image)
        file = edge.export(quantized, tmp_path / "model.tflite", "hybrid_int8")
        audit = edge.audit(file)
        assert audit.partitions == 1 and audit.findings == []
        assert edge.verify(quantized, file, image).snr_db > edge.verify(model, file, image).snr_db + 2

    def check(self, model, tmp_path, image):
        file = edge.export(model, tmp_path / "model.tflite")
        # No finding: only built-in operators, static shapes, rank 4 at most, and all operators in the CPU delegate.
        audit = edge.audit(file)
        assert audit.partitions == 1 and audit.findings == []
        assert edge.verify(model, file, image).max_relative_error < 1e-5


def test_invalid_settings():
    with pytest.raises(ValueError, match="received 'token'"):
        tiny(include_top=False, pooling="token")
    with pytest.raises(ValueError, match="must be a multiple of input_channels"):
        tiny(rows=((20, 16, 2),))
    with pytest.raises(ValueError, match="channels-last"):
        keras_vit.MobileFormer_26M(input_shape=(3, 224, 224))
