"""Preprocessing of images against the formulas, and that a model never loses the facts about its images."""

import math

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import edge
from keras_vit.models import registry
from keras_vit.models.builder import set_image_facts
from keras_vit.models.image_facts import IMAGENET
from keras_vit.models.preprocessing import image_facts, resize_and_crop

TINY = dict(patch_size=8, width=24, depth=1, num_heads=3, mlp_dim=48, classes=5, classifier_activation=None)
RANDOM = np.random.default_rng(0)


def photo(height, width, channels=3):
    """Return a uint8 image with large shapes and sharp edges."""
    rough = RANDOM.integers(0, 256, (1 + height // 16, 1 + width // 16, channels), dtype=np.uint8)
    return np.kron(rough, np.ones((16, 16, 1), np.uint8))[:height, :width]


def cubic(x):
    """Compute Keys' cubic convolution kernel (1981) with a = -1/2."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def triangle(x):
    return max(0.0, 1 - abs(x))


def weights(before, after, kernel, support):
    """Return weights (after, before). Each row is a kernel around a pixel's center, widened if the image shrinks."""
    matrix = np.zeros((after, before))
    step = before / after
    width = max(step, 1.0)
    for i in range(after):
        center = (i + 0.5) * step - 0.5
        for j in range(
            max(0, math.floor(center - support * width)), min(before, math.ceil(center + support * width) + 1)
        ):
            matrix[i, j] = kernel((j - center) / width)
    return matrix / matrix.sum(1, keepdims=True)


def evaluated(image, size, crop, kernel, support):
    """Resize the shorter side to floor(size / crop), keep the aspect ratio, and crop the center."""
    whole = math.floor(size / crop)
    short = min(image.shape[:2])
    height, width = (math.floor(whole * side / short) for side in image.shape[:2])
    rows = weights(image.shape[0], height, kernel, support)
    columns = weights(image.shape[1], width, kernel, support)
    resized = np.einsum("ilc,kl->ikc", np.einsum("ij,jlc->ilc", rows, image.astype("float64")), columns)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.clip(resized[top : top + size, left : left + size], 0, 255)


def test_resizing_is_bicubic_with_antialiasing():
    for height, width in ((300, 451), (513, 300), (97, 120), (256, 256)):
        image = photo(height, width)
        given = keras_vit.preprocess_input(image, "vit_b16", "augreg_in21k_ft_in1k")
        expected = evaluated(image, 224, 0.9, cubic, 2) / 127.5 - 1
        assert given.shape == (224, 224, 3) and given.dtype == np.float32
        np.testing.assert_allclose(given, expected, atol=2e-3)
        assert given.min() >= -1 and given.max() <= 1


def test_resizing_can_be_bilinear():
    image = photo(200, 133)
    given = resize_and_crop(image[None], (96, 96), 0.875, "bilinear")[0]
    np.testing.assert_allclose(given, evaluated(image, 96, 0.875, triangle, 1), atol=0.3)


def test_an_image_covers_an_oblong_input():
    image = photo(100, 100)
    given = np.asarray(resize_and_crop(image[None], (32, 64), 1.0, "bicubic")[0])
    assert given.shape == (32, 64, 3)
    whole = np.asarray(resize_and_crop(image[None], (64, 64), 1.0, "bicubic")[0])
    np.testing.assert_allclose(given, whole[16:48], atol=1e-3)


def test_an_image_of_the_right_size_is_only_normalized():
    image = photo(224, 224)
    given = keras_vit.preprocess_input(image, "vit_b16", name="vit_b16.augreg_in21k_ft_in1k_384")
    assert given.shape == (384, 384, 3)
    model = keras_vit.ViT_B16(input_shape=(32, 32, 3), **TINY)
    # 32 / 0.9 is 35 pixels, so an image of 35 x 35 is not resized.
    image = photo(35, 35)
    mean, std = np.array(IMAGENET.mean), np.array(IMAGENET.std)
    expected = (image[2:34, 2:34] / 255 - mean) / std
    given = keras_vit.preprocess_input(image, model, name="vit_b16.mae")
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_batches_single_images_and_tensors():
    model = keras_vit.ViT_Ti16(input_shape=(32, 32, 3), **TINY)
    images = np.stack([photo(50, 40), photo(50, 40)])
    batch = keras_vit.preprocess_input(images, model)
    assert isinstance(batch, np.ndarray) and batch.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(keras_vit.preprocess_input(images[1], model), batch[1], atol=1e-6)
    np.testing.assert_allclose(keras_vit.preprocess_input(images.astype("float64"), model), batch, atol=1e-6)
    np.testing.assert_allclose(keras_vit.preprocess_input(images.tolist(), model), batch, atol=1e-6)
    tensor = keras_vit.preprocess_input(keras.ops.convert_to_tensor(images), model)
    assert keras.ops.is_tensor(tensor)
    np.testing.assert_allclose(tensor, batch, atol=1e-6)
    assert model.predict(batch, verbose=0).shape == (2, 5)


def test_within_a_dataset():
    import tensorflow as tf

    model = keras_vit.ViT_Ti16(input_shape=(32, 32, 3), **TINY)
    images = np.stack([photo(50, 40), photo(50, 40)])
    dataset = tf.data.Dataset.from_tensor_slices(images).map(lambda image: keras_vit.preprocess_input(image, model))
    expected = keras_vit.preprocess_input(images, model)
    np.testing.assert_allclose(np.stack(list(dataset.as_numpy_iterator())), expected, atol=1e-6)


IMAGE = np.random.default_rng(0).integers(0, 256, (60, 60, 3), "uint8")


class TestAModelKnowsItsImages:
    """The facts are part of the model, whatever its name, and of every model made from it."""

    @pytest.fixture
    def model(self):
        """Return a ViT that takes images like DINO's weights."""
        built = keras_vit.ViT_S16(input_shape=(32, 32, 3), name="flowers", **TINY)
        return set_image_facts(built, registry.find_weights("vit_s16", "dino").image_facts)

    def expected(self, image):
        return keras_vit.preprocess_input(image, keras_vit.ViT_S16(input_shape=(32, 32, 3), **TINY), "dino")

    def test_saved_and_loaded(self, model, tmp_path):
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert image_facts(loaded) == image_facts(model) == registry.find_weights("vit_s16", "dino").image_facts
        np.testing.assert_array_equal(keras_vit.preprocess_input(IMAGE, loaded), self.expected(IMAGE))

    def test_it_differs_from_other_weights(self, model):
        other = keras_vit.preprocess_input(IMAGE, keras_vit.ViT_S16(input_shape=(32, 32, 3), **TINY))
        assert np.abs(other - keras_vit.preprocess_input(IMAGE, model)).max() > 0.5

    @pytest.mark.parametrize("derive", [keras_vit.flatten, keras_vit.fuse, lambda model: keras_vit.new_head(model, 3)])
    def test_derived_models(self, model, derive):
        assert image_facts(derive(model)) == image_facts(model)

    def test_resized(self, model):
        assert image_facts(keras_vit.resize_model(model, (48, 48, 3))) == image_facts(model)

    def test_quantized(self, model):
        images = self.expected(IMAGE)[None]
        assert image_facts(edge.quantize_aware(model, calibration_data=images)) == image_facts(model)

    def test_within_another_model(self, model):
        inputs = keras.Input((32, 32, 3))
        outer = keras.Model(inputs, keras.layers.Dense(2)(model(inputs)))
        assert image_facts(outer) == image_facts(keras.Sequential([model, keras.layers.Dense(2)])) == image_facts(model)

    def test_a_model_that_normalizes_keeps_its_statistics(self):
        model = keras_vit.ViT_S16(input_shape=(32, 32, 3), include_preprocessing=IMAGENET, **TINY)
        assert image_facts(model).statistics == IMAGENET
        image = photo(36, 36)  # 32 / 0.875 is 36 pixels, so the image is only cropped.
        np.testing.assert_allclose(keras_vit.preprocess_input(image, model), image[2:34, 2:34], atol=1e-3)

    def test_a_model_of_another_library(self):
        other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()], name="mine")
        with pytest.raises(ValueError, match=r"not known how the model 'mine' takes images.*name='vit_b16'"):
            keras_vit.preprocess_input(IMAGE, other)
        named = keras_vit.preprocess_input(IMAGE, other, name="vit_s16.dino")
        np.testing.assert_array_equal(named, self.expected(IMAGE))


def test_normalizing_within_the_model_or_before_it_is_the_same():
    images = np.stack([photo(70, 90)])
    before = keras_vit.ViT_Ti16(input_shape=(32, 32, 3), **TINY)
    within = keras_vit.ViT_Ti16(input_shape=(32, 32, 3), include_preprocessing=True, **TINY)
    within.set_weights(before.get_weights())
    pixels = keras_vit.preprocess_input(images, within)
    assert 2 < pixels.max() <= 255
    expected = before.predict(keras_vit.preprocess_input(images, before), verbose=0)
    np.testing.assert_allclose(within.predict(pixels, verbose=0), expected, atol=1e-5)
    assert np.abs(before.predict(pixels, verbose=0) - expected).max() > 0.01


@pytest.mark.parametrize("precision", ["float32", "hybrid_int8"])
def test_uint8_images_from_the_array_to_the_file(precision, tmp_path):
    """The model and its file take float32 values in [0, 255]. Keras and `verify` convert uint8 arrays."""
    images = np.stack([photo(32, 32) for _ in range(8)])
    assert images.dtype == np.uint8
    model = keras_vit.ViT_Ti16(input_shape=(32, 32, 3), include_preprocessing=True, **TINY)
    floats = model.predict(images.astype("float32"), verbose=0)
    np.testing.assert_array_equal(model.predict(images, verbose=0), floats)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), floats)
    if precision == "hybrid_int8":
        loaded = edge.quantize_aware(loaded, calibration_data=images)
    file = edge.export(loaded, tmp_path / "model.tflite", precision)
    proof = edge.verify(loaded, file, images)
    assert proof.snr_db > (100 if precision == "float32" else 25) and proof.top1_agreement == 1
    assert edge.audit(file).partitions == 1


def test_unsuitable_images_are_refused():
    for images, sentence in (
        (np.zeros((20, 20), np.uint8), r"received \(20, 20\)\. Give a grayscale image three channels"),
        (np.zeros((20, 20, 1), np.uint8), r"images with 3 channels; received \(20, 20, 1\)\. Repeat the gray channel"),
        (np.zeros((20, 20, 4), np.uint8), r"received \(20, 20, 4\)\. Leave out the alpha channel"),
        (np.zeros((3, 20, 20), np.uint8), r"images with 3 channels; received \(3, 20, 20\)\."),
        (np.zeros((1, 0, 20, 3), np.uint8), "must have at least one pixel"),
        (np.zeros((20, 20, 3), bool), "received bool"),
        (np.full((20, 20, 3), 0.5), r"seem to be in \[0, 1\]: multiply them by 255"),
        (np.full((20, 20, 3), -0.5), r"received values from -0\.5 to -0\.5"),
        (np.full((20, 20, 3), 256), "received values from 256 to 256"),
        (np.full((20, 20, 3), np.nan), "received values from nan to nan"),
        ([[1, 2], [3]], "pass images of different sizes as a list of arrays"),
        (object(), "must be paths, Pillow images, or arrays.*received object"),
    ):
        with pytest.raises(ValueError, match=sentence):
            keras_vit.preprocess_input(images, "vit_b16")


def test_an_unknown_model_or_tag():
    with pytest.raises(ValueError, match="nearest are vit_b16"):
        keras_vit.preprocess_input(photo(20, 20), "vit_b15")
    with pytest.raises(ValueError, match=r"nearest are .*augreg_in21k"):
        keras_vit.preprocess_input(photo(20, 20), "vit_b16", "augreg")


def test_a_model_of_grayscale_images():
    model = keras_vit.ViT_Ti16(input_shape=(16, 16, 1), **TINY)
    assert keras_vit.preprocess_input(photo(20, 20, 1), model).shape == (16, 16, 1)
