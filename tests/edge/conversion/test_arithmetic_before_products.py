"""Arithmetic before a product in int8: the file's product takes the tensor that the layer takes.

TensorFlow Lite's converter folds a product with one number, or a sum with one number where nothing is padded, into the
convolution or dense layer behind it. That layer then takes the tensor before the arithmetic, with another range.
"""

import keras
import numpy as np
import pytest
from keras.layers import Rescaling

import keras_vit
from keras_vit import edge

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3)).astype("float32")


def normalization(images):
    return keras.layers.Normalization(axis=None, mean=127.5, variance=60.0**2)(images)


def batch_normalization(images):
    return keras.layers.BatchNormalization(name="norm")(images / 255)


# By what it does with the image, and whether it can all go into the layer behind it.
ARITHMETIC = {
    "a product": (lambda images: Rescaling(1 / 255)(images), True),
    "a product and a sum": (lambda images: Rescaling(1 / 127.5, -1)(images), False),
    "operators": (lambda images: images / 127.5 - 1, False),
    "operators in the other order": (lambda images: (images - 127.5) / 127.5, False),
    "two products": (lambda images: 2 * Rescaling(1 / 255)(images), True),
    "two layers": (lambda images: Rescaling(2, -1)(Rescaling(1 / 255)(images)), False),
    "a difference from a number": (lambda images: 1 - images / 255, False),
    "a normalization": (normalization, False),
    "a batch normalization": (batch_normalization, True),
    "layers of keras_vit": (
        lambda images: keras_vit.layers.Shift(-1.0)(keras_vit.layers.Scale(1 / 127.5)(images)),
        False,
    ),
    "a sum before padding": (lambda images: keras.layers.ZeroPadding2D(1)(Rescaling(1 / 127.5, -1)(images)), False),
}


def randomized(model):
    random = np.random.default_rng(1)
    for variable in model.weights:
        if variable.name == "moving_variance":
            variable.assign(random.uniform(0.5, 2, variable.shape))
        elif len(variable.shape) > 1:
            variable.assign(random.normal(size=variable.shape) / np.sqrt(np.prod(variable.shape[:-1])))
        else:
            variable.assign(0.1 * random.normal(size=variable.shape) + (variable.name == "gamma"))
    return model


def convnet(arithmetic, channels, **settings):
    image = keras.Input((16, 16, channels))
    x = keras.layers.Conv2D(8, 3, **settings)(arithmetic(image))
    return randomized(keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))))


def assert_file_is_the_model(model, pixels, tmp_path, least=35):
    quantized = edge.quantize_aware(model, calibration_data=pixels)
    file = edge.export(quantized, tmp_path / "model.tflite", verify=False)
    assert edge.verify(quantized, file, pixels).snr_db > least
    # The quantized model is close to the float model, so its ranges are right too.
    assert edge.verify(model, file, pixels).snr_db > 20


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_convolution_takes_what_its_layer_takes(name, channels, tmp_path):
    arithmetic, folds = ARITHMETIC[name]
    model = convnet(arithmetic, channels)
    fused = keras_vit.fuse(model)
    left = len(fused.operations) - len(convnet(lambda images: images, channels).operations)
    assert (left == 0) is folds
    assert_file_is_the_model(model, PIXELS[..., :channels], tmp_path)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
        lambda: keras.layers.DepthwiseConv2D(3),
        lambda: keras.layers.Dense(6),
    ],
    ids=["padded convolution", "depthwise convolution", "dense layer"],
)
def test_other_layers_take_what_their_layer_takes(layer, tmp_path):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(layer()((image - 127.5) / 127.5))
    assert_file_is_the_model(randomized(keras.Model(image, keras.layers.Dense(4)(x))), PIXELS, tmp_path)


def test_a_backbone_inside_another_model(tmp_path):
    backbone = keras_vit.ViT(
        include_top=False, pooling="avg", input_shape=(16, 16, 3), patch_size=8, width=24, depth=1, num_heads=2
    )
    layers = [keras.Input((16, 16, 3)), Rescaling(1 / 127.5, -1), backbone, keras.layers.Dense(4)]
    assert_file_is_the_model(randomized(keras.Sequential(layers)), PIXELS, tmp_path)


def test_a_model_of_gray_images_that_normalizes_them(tmp_path):
    model = keras_vit.ViT(
        include_preprocessing=True, input_shape=(16, 16, 1), patch_size=8, width=24, depth=1, num_heads=2, classes=4,
        classifier_activation=None,
    )  # fmt: skip
    assert_file_is_the_model(randomized(model), PIXELS[..., :1], tmp_path)


def test_numbers_between_products_that_others_use_too(tmp_path):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(image / 255)
    scaled = keras_vit.layers.Scale(0.1)(x)
    one, two = keras.layers.Conv2D(8, 3)(scaled), keras.layers.Conv2D(8, 3)(scaled)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Concatenate()([one, two]))
    x = keras.layers.ReLU()(keras.layers.Dense(6)(pooled * 3 - 1))
    assert_file_is_the_model(randomized(keras.Model(image, keras.layers.Dense(4)(x))), PIXELS, tmp_path)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("arithmetic", [lambda x: keras_vit.layers.Shift(0.5)(x), lambda x: 2 * x - 1, lambda x: 3 * x])
def test_numbers_behind_a_relu(arithmetic, padding, tmp_path):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(image)
    x = keras.layers.Conv2D(8, 3, padding=padding, activation="relu")(arithmetic(x))
    x = keras.layers.Dense(6, activation="relu")(keras.layers.GlobalAveragePooling2D()(x))
    model = randomized(keras.Model(image, keras.layers.Dense(4)(arithmetic(x))))
    assert_file_is_the_model(model, PIXELS / 255, tmp_path)


@keras.saving.register_keras_serializable("tests")
class Divide(keras.layers.Layer):
    """A user's layer with arithmetic that keras_vit cannot see."""

    def call(self, inputs):
        return inputs / 255


@keras.saving.register_keras_serializable("tests")
class Watch(keras.layers.Layer):
    """A user's layer that gives what it takes."""

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("kind", [Divide, Watch])
def test_a_file_in_which_a_layer_would_take_another_tensor_is_not_written(kind, tmp_path):
    quantized = edge.quantize_aware(convnet(kind(name="own"), 3, name="conv"), calibration_data=PIXELS)
    with pytest.raises(RuntimeError, match=r"the int8 layer 'conv' takes .*image.*, not the output of 'own'"):
        edge.export(quantized, tmp_path / "model.tflite", verify=False)
    assert not list(tmp_path.iterdir())


def test_a_layer_that_declares_to_do_nothing_is_no_obstacle(tmp_path):
    class Declared(Watch):
        identity_in_inference = True

    keras.saving.register_keras_serializable("tests", "Declared")(Declared)
    assert_file_is_the_model(convnet(Declared(), 3), PIXELS, tmp_path)


def test_pixels_as_integers(tmp_path):
    image = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Conv2D(8, 3)(Rescaling(1 / 255)(keras.layers.RandomFlip()(image)))
    model = randomized(keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x))))
    assert_file_is_the_model(model, PIXELS.astype("uint8"), tmp_path)
