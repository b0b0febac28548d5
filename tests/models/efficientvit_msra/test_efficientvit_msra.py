"""EfficientViT of Microsoft Research: parameters, outputs, export and errors."""

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit import edge
from tests.benchmarks.weights import randomize
from tests.reference import fixture, images, relative_error, timm_file, timm_weights

# Parameters, parameters of the fused model, and multiply-accumulates at 224 x 224, counted with the reference code.
PUBLISHED = {
    "efficientvit_m0": (2_349_436, 2_334_916, 79_193_600),
    "efficientvit_m1": (2_980_560, 2_964_256, 167_051_840),
    "efficientvit_m2": (4_187_554, 4_168_338, 201_035_712),
    "efficientvit_m3": (6_900_722, 6_875_890, 262_662_208),
    "efficientvit_m4": (8_804_228, 8_776_340, 299_308_544),
    "efficientvit_m5": (12_473_772, 12_436_260, 521_583_104),
}
QUICK = ("efficientvit_m0",)
SHAPE = (160, 128, 3)
# The maps are 10 x 8 (padded windows), 5 x 4 and 3 x 2 (one window each).
TINY = dict(
    channels=(16, 16, 24), depths=(1, 2, 1), num_heads=(2, 2, 3), kernel_sizes=(5, 3, 3), input_shape=SHAPE, classes=5
)
IMAGES = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")


def slow_unless(names, quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def tiny(**settings):
    model = keras_vit.EfficientViT_MSRA(**{"classifier_activation": None, **TINY, **settings})
    randomize(model)
    return model


def outputs(model, images=IMAGES):
    return keras.ops.convert_to_numpy(model(images, training=False))


def per_image(given, expected):
    return np.array([relative_error(*pair) for pair in zip(given, expected, strict=True)])


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_published_counts(name, published):
    info = keras_vit.model_info(name)
    assert info["parameters"] == published[0] and abs(info["macs"] / published[2] - 1) < 0.01
    assert info["family"] == "EfficientViT_MSRA" and info["license"] == "MIT"


@pytest.mark.parametrize("name", slow_unless(PUBLISHED, ("efficientvit_m0",)))
def test_published_counts_of_the_fused_model(name):
    model = keras_vit.create_model(name)
    randomize(model)  # A normalization that shifts by zero needs no bias.
    assert keras_vit.fuse(model).count_params() == PUBLISHED[name][1]


class TestReference:
    """Compare with the outputs of timm, image by image. Errors are relative to the largest output.

    The weights have unit variance and give attention scores of 1e4, where float32's rounding is 1e-3. Sometimes the
    rounding decides which pixel a softmax selects. In float64, changing every weight by at most one unit in the last
    place of float32 moves the output for the second image by 10 % in M0 and by 3 % in M3. So the tolerance for an image
    is 1e-4 or, if such changes move its output further, a few times that movement. The image with the smaller error
    must always be within 1e-4.
    """

    def model(self, name, path, **settings):
        model = keras_vit.create_model(name, classifier_activation=None, **settings)
        report = keras_vit.load_weights(model, path)
        assert report.project == "timm" and not report.unused
        assert sum(np.prod(v.shape) for v in model.trainable_weights) == int(fixture(name)["params"])
        return model

    def errors(self, name, folder, weights=None, **settings):
        path = timm_file(name, folder)
        if weights is not None:
            save_file(weights, path)
        model = self.model(name, path, **settings)
        pixels = images(224).astype(model.compute_dtype)
        return per_image(outputs(model, pixels), fixture(name)["logits"])

    def movement(self, name, path):
        """Return how far each output moves at most in float64 when the last place of the float32 weights changes."""
        model = self.model(name, path, dtype="float64")
        random, pixels = np.random.default_rng(0), images(224).astype("float64")
        expected, weights = outputs(model, pixels), model.get_weights()
        moved = []
        for _ in range(8):
            model.set_weights([w * (1 + 2.0**-23 * random.uniform(-1, 1, w.shape)) for w in weights])
            moved.append(per_image(outputs(model, pixels), expected))
        return np.max(moved, axis=0)

    @pytest.mark.parametrize("name", slow_unless(PUBLISHED, QUICK))
    def test_outputs_equal_the_reference(self, name, tmp_path):
        errors = self.errors(name, tmp_path)
        assert min(errors) < 1e-4
        if max(errors) > 1e-4:
            bound = np.maximum(1e-4, 4 * self.movement(name, timm_file(name, tmp_path)))
            assert np.all(errors < bound), (errors, bound)
            assert np.all(self.errors(name, tmp_path, dtype="float64") < bound)

    def test_another_epsilon_is_detected(self, tmp_path):
        assert min(self.errors("efficientvit_m0", tmp_path, epsilon=1e-3)) > 1e-3

    def test_a_swapped_bias_is_detected(self, tmp_path):
        weights = timm_weights("efficientvit_m0")
        name = "stages.1.blocks.1.mixer.m.attn.attention_biases"
        weights[name] = np.ascontiguousarray(weights[name][::-1] * 100)
        assert min(self.errors("efficientvit_m0", tmp_path, weights)) > 1e-4


def test_maps_of_every_stride_are_found_by_name():
    model = tiny(include_top=False)
    strides = {f"patch_embedding_{k}": 2**k for k in (1, 2, 3, 4)}
    strides |= {"stage_0_block_0": 16, "stage_1_block_1": 32, "stage_2_block_0": 64}
    for name, stride in strides.items():
        assert model.get_layer(name).output.shape[1:3] == tuple(-(-side // stride) for side in SHAPE[:2])
    assert model.output_shape == (None, 3, 2, 24)


def test_pooling_preprocessing_and_input_tensor():
    assert tiny(include_top=False, pooling="avg").output_shape == (None, 24)
    plain, own = tiny(), tiny(include_preprocessing=True)
    own.set_weights(plain.get_weights())
    pixels = np.random.default_rng(1).uniform(0, 255, size=(2, *SHAPE)).astype("float32")
    normal = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert relative_error(outputs(own, pixels), outputs(plain, normal.astype("float32"))) < 1e-5
    image = keras.Input(SHAPE)
    assert tiny(input_tensor=image * 2.0).inputs[0] is image


def test_other_image_sizes():
    for shape in [(256, 256, 3), (192, 160, 3), (50, 310, 3)]:
        image = np.ones((1, *shape), "float32")
        assert np.all(np.isfinite(outputs(tiny(input_shape=shape), image)))


def test_weights_of_another_image_size_are_refused_by_shape(tmp_path):
    model = keras_vit.EfficientViT_M0(input_shape=(256, 256, 3))
    # 8 x 8 pixels in the second stage make four windows of 7 x 7; the third has 4 x 4 pixels, as at 224 x 224.
    keras_vit.load_weights(model, timm_file("efficientvit_m0", tmp_path))
    with pytest.raises(ValueError, match=r"head_0\.bias/table is \(49,\) in the file and \(36,\) in the model"):
        keras_vit.load_weights(
            keras_vit.EfficientViT_M0(input_shape=(192, 192, 3)), timm_file("efficientvit_m0", tmp_path)
        )


def test_branches_start_at_zero_except_in_the_transitions():
    model = keras_vit.EfficientViT_MSRA(**TINY)
    layers = keras_vit.flatten(model).layers
    zero = {layer.name for layer in layers if hasattr(layer, "gamma") and not np.any(layer.gamma)}
    assert {"stage_1_block_0.depthwise0.depthwise.norm", "stage_1_block_0.attention.project.norm"} <= zero
    assert {"stage_1_downsample.mlp0.project.norm", "stage_1_block_1.mlp1.project.norm"} <= zero
    assert "stage_1_downsample.depthwise0.depthwise.norm" not in zero


def test_fusing():
    model = tiny(drop_path_rate=0.1)
    folded = keras_vit.fuse(model)
    assert relative_error(outputs(folded), outputs(model)) < 1e-5
    kinds = {type(layer).__name__ for layer in folded.layers}
    assert not {"BatchNormalization", "Scale", "DropPath"} & kinds


def check_file(model, path):
    """Check that a file is one partition, static, of rank 4 at most, and gives the model's outputs."""
    file = edge.export(model, path)
    audit = edge.audit(file)
    assert audit.partitions == 1 and audit.findings == []
    pixels = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype("float32")
    assert edge.verify(model, file, pixels).max_relative_error < 1e-4
    return audit


def test_export(tmp_path):
    audit = check_file(tiny(), tmp_path / "model.tflite")
    # A head has two products of activations. Its bias is added as a constant, not computed.
    assert audit.ops["BATCH_MATMUL"] == audit.ops["SOFTMAX"] * 2 == 2 * (2 + 2 * 2 + 3)
    assert not {"GATHER", "GATHER_ND"} & set(audit.ops)


@pytest.mark.slow
def test_export_of_m2(tmp_path):
    model = keras_vit.EfficientViT_M2(classifier_activation=None)
    randomize(model)
    check_file(model, tmp_path / "m2.tflite")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": (16, 16)}, r"received \(16, 16\)"),
        ({"channels": (12, 16, 24)}, "multiple of 8; received 12"),
        ({"num_heads": (3, 2, 3)}, "num_heads=3"),
        ({"kernel_sizes": (3,)}, r"kernel_sizes=\(3,\)"),
        ({"include_top": False, "pooling": "token"}, "pooling must be 'avg' or None; received 'token'"),
    ],
)
def test_errors_name_the_argument(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)
