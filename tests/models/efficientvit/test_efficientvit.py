"""EfficientViT of MIT: parameters, outputs, export and errors."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from tests.benchmarks.weights import randomize
from tests.reference import relative_error

# Parameters and multiply-accumulates at 224 x 224, and parameters without the top, counted with the reference code.
PUBLISHED = {
    "efficientvit_b0": (3_410_008, 100_233_216, 682_608),
    "efficientvit_b1": (9_102_024, 519_214_592, 4_643_936),
    "efficientvit_b2": (24_330_712, 1_584_937_984, 14_977_008),
    "efficientvit_b3": (48_646_056, 3_953_822_208, 38_997_440),
    "efficientvit_l1": (52_654_088, 5_258_479_616, 38_037_280),
    "efficientvit_l2": (63_707_016, 6_949_862_400, 49_090_208),
    "efficientvit_l3": (246_037_288, 27_586_525_184, 193_998_144),
}
SHAPE = (72, 64, 3)
# The third stage has 5 x 4 pixels, more than a head has channels, and the fourth 3 x 2: linear attention computes its
# products in both orders.
TINY = dict(
    channels=(4, 8, 8, 16, 16), depths=(1, 2, 1, 1, 1), head_dim=8, head_channels=(20, 12), input_shape=SHAPE, classes=5
)
IMAGES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")


def tiny(**settings):
    model = keras_vit.EfficientViT(**{"classifier_activation": None, **TINY, **settings})
    randomize(model)
    return model


def outputs(model, images=IMAGES):
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_published_counts(name, published):
    info = keras_vit.model_info(name)
    assert info["parameters"] == published[0] and abs(info["macs"] / published[1] - 1) < 0.01
    assert info["family"] == "EfficientViT" and info["license"] == "Apache-2.0"


@pytest.mark.parametrize(
    "name", [name if name.endswith("1") else pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED]
)
def test_published_counts_without_the_top(name):
    assert keras_vit.model_info(name, include_top=False)["parameters"] == PUBLISHED[name][2]


def test_l0_has_no_published_classifier():
    assert keras_vit.model_info("efficientvit_l0", include_top=False)["parameters"] == 27_805_472
    head = 52_654_088 - 38_037_280  # The classifier of L1, which has the same number of channels.
    assert keras_vit.model_info("efficientvit_l0")["parameters"] == 27_805_472 + head


@pytest.mark.parametrize("series", ["B", "L"])
def test_maps_of_every_stride_are_found_by_name(series):
    model = tiny(series=series, include_top=False)
    strides = {
        "stem_block_0": 2,
        "stage_0_block_1": 4,
        "stage_1_block_0": 8,
        "stage_2_block_1": 16,
        "stage_3_block_1": 32,
    }
    for name, stride in strides.items():
        expected = tuple(-(-side // stride) for side in SHAPE[:2])
        assert model.get_layer(name).output.shape[1:3] == expected
    assert model.output_shape == (None, 3, 2, 16)


def test_pooling_preprocessing_and_input_tensor():
    assert tiny(include_top=False, pooling="avg").output_shape == (None, 16)
    plain, own = tiny(), tiny(include_preprocessing=True)
    own.set_weights(plain.get_weights())
    pixels = np.random.default_rng(1).uniform(0, 255, size=(2, *SHAPE)).astype("float32")
    normal = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert relative_error(outputs(own, pixels), outputs(plain, normal.astype("float32"))) < 1e-5
    image = keras.Input(SHAPE)
    assert tiny(input_tensor=image * 2.0).inputs[0] is image
    probabilities = outputs(tiny(classifier_activation="softmax"))
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)


def test_other_image_sizes():
    for shape in [(256, 256, 3), (192, 160, 3), (33, 47, 3)]:
        image = np.ones((1, *shape), "float32")
        assert np.all(np.isfinite(outputs(tiny(input_shape=shape), image)))


def check_file(model, path):
    """Check that a file is one partition, static, of rank 4 at most, and gives the model's outputs."""
    file = edge.export(model, path)
    audit = edge.audit(file)
    assert audit.partitions == 1 and audit.findings == []
    images = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    assert edge.verify(model, file, images).max_relative_error < 1e-4
    return audit


@pytest.mark.parametrize(("series", "activation"), [("B", "HARD_SWISH"), ("L", "GELU")])
def test_export(series, activation, tmp_path):
    audit = check_file(tiny(series=series), tmp_path / "model.tflite")
    assert audit.ops[activation] > 5  # Hard swish is one operator.


@pytest.mark.slow
def test_export_of_b1(tmp_path):
    model = keras_vit.EfficientViT_B1(classifier_activation=None)
    randomize(model)
    check_file(model, tmp_path / "b1.tflite")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"series": "M"}, "series must be 'B' or 'L'; received 'M'"),
        ({"depths": (1, 2, 3)}, r"depths=\(1, 2, 3\)"),
        ({"head_dim": 5}, "head_dim must divide channels; received head_dim=5"),
        ({"include_top": False, "pooling": "token"}, "pooling must be 'avg' or None; received 'token'"),
        ({"classes": 0}, "classes must be a positive integer; received 0"),
        ({"input_shape": (3, 64, 64)}, "channels-last"),
    ],
)
def test_errors_name_the_argument(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)
