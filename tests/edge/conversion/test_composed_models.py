"""Models composed of others, as users compose them: exported, quantized, verified and audited."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_vit
from keras_vit import edge
from keras_vit.layers import ConvNorm
from tests.edge.conversion.test_arithmetic_before_products import randomized

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(8, 16, 16, 3)).astype("float32")
PIXELS = RANDOM.integers(0, 256, (8, 16, 16, 3)).astype("float32")


def vit(**settings):
    return keras_vit.ViT(
        **{"input_shape": (16, 16, 3), "patch_size": 8, "width": 16, "depth": 1, "num_heads": 2, "classes": 4}
        | {"classifier_activation": None}
        | settings
    )


def backbone(**settings):
    return vit(include_top=False, pooling="token", **settings)


def convolutional():
    image = keras.Input((16, 16, 3))
    x = ConvNorm(8, 3, activation="silu")(image)
    x = ConvNorm(8, 3, activation="relu", name="last")(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def transfer_learning():
    """What Keras' guide on transfer learning builds."""
    image = keras.Input((16, 16, 3))
    augmented = layers.RandomZoom(0.1)(layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(image)))
    base = backbone()
    base.trainable = False
    x = base(layers.Rescaling(1 / 127.5, offset=-1)(augmented), training=False)
    return keras.Model(image, layers.Dense(3)(layers.Dropout(0.2, name="dropout")(x)))


def sequential():
    augmentation = keras.Sequential([layers.RandomFlip(), layers.RandomContrast(0.1), layers.GaussianNoise(0.1)])
    return keras.Sequential(
        [keras.Input((16, 16, 3)), augmentation, backbone(), layers.Dropout(0.3, name="dropout"), layers.Dense(3)]
    )


def ensemble():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Average()([vit(name="a")(image), vit(name="b")(image)]))


def twice_on_one_image():
    image, base = keras.Input((16, 16, 3)), backbone()
    return keras.Model(image, layers.Dense(3)(layers.Subtract()([base(image), base(image * -1)])))


def siamese(base):
    left, right = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    return keras.Model([left, right], layers.Dense(3)(layers.Concatenate()([base(left), base(right)])))


def named_inputs_and_outputs():
    inputs = {"picture": keras.Input((16, 16, 3), name="picture"), "age": keras.Input((5,), name="age")}
    x = layers.Concatenate()([backbone()(inputs["picture"]), layers.Dense(4, activation="relu")(inputs["age"])])
    # Sorted as text, y10 comes before y2; sorted as numbers, after it.
    outputs = {"y10": layers.Dense(3, name="a")(x), "y2": layers.Dense(3, name="b")(x)}
    return keras.Model(inputs, outputs | {"chances": layers.Softmax()(outputs["y2"])})


def chained_outputs():
    image = keras.Input((16, 16, 3))
    x = backbone()(image)
    hidden = layers.Dense(4, name="hidden")(x)
    return keras.Model(image, [hidden, layers.Dense(3)(layers.ReLU()(hidden)), layers.Dense(3)(x)])


PAIRS = [IMAGES, IMAGES[::-1]]
AGES = RANDOM.normal(size=(8, 5)).astype("float32")
MODELS = {
    "transfer learning": (transfer_learning, PIXELS),
    "sequential": (sequential, IMAGES),
    "ensemble": (ensemble, IMAGES),
    "twice on one image": (twice_on_one_image, IMAGES),
    "siamese": (lambda: siamese(backbone()), PAIRS),
    "siamese convolutional": (lambda: siamese(convolutional()), {"left": PAIRS[0], "right": PAIRS[1]}),
    "named inputs and outputs": (named_inputs_and_outputs, {"age": AGES, "picture": IMAGES}),
    "chained outputs": (chained_outputs, IMAGES),
}


@pytest.fixture(scope="module", params=MODELS)
def case(request):
    """The name of a model, the model, what it takes, and its quantized form."""
    make, data = MODELS[request.param]
    model = randomized(make())
    return request.param, model, data, edge.quantize_aware(model, calibration_data=data)


def computed(model, data):
    if isinstance(data, dict) and isinstance(model.input, list):
        data = [data[tensor.name] for tensor in model.inputs]
    return keras.tree.flatten(model(data, training=False))


def test_flattened_and_fused_it_computes_the_same(case):
    _, model, data, _ = case
    for change in (keras_vit.flatten, keras_vit.fuse):
        for given, expected in zip(computed(change(model), data), computed(model, data), strict=True):
            np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


def test_its_float_file_computes_the_same(case, tmp_path):
    _, model, data, _ = case
    file = edge.export(model, tmp_path / "model.tflite")
    assert edge.verify(model, file, data).snr_db > 90
    assert edge.audit(file).partitions == 1


def test_its_int8_file_computes_what_the_quantized_model_does(case, tmp_path):
    _, model, data, quantized = case
    file = edge.export(quantized, tmp_path / "model.tflite")
    assert edge.verify(quantized, file, data).snr_db > 25
    assert edge.verify(model, file, data).snr_db > 15
    assert edge.audit(file).partitions == 1
    assert edge.benchmark(file, runs=2, warmup=0).p50_ms > 0


def test_what_is_frozen_stays_frozen_and_what_is_shared_stays_shared(case):
    name, model, _, quantized = case
    assert len(quantized.trainable_weights) <= len(model.trainable_weights)
    if name == "transfer learning":
        # The classifier's kernel and bias.
        assert [variable.shape for variable in quantized.trainable_weights] == [(16, 3), (3,)]
    if name == "siamese":
        assert len([layer for layer in quantized.layers if layer.name.endswith("mlp.expand")]) == 1


def test_a_shared_convolution_takes_a_batch_normalization_into_its_weights(case):
    name, _, _, quantized = case
    if name == "siamese convolutional":
        assert not any(isinstance(layer, layers.BatchNormalization) for layer in quantized.layers)


def test_a_shared_layer_that_would_need_two_ranges_is_refused():
    image = keras.Input((16, 16, 3))
    shared, other = layers.Conv2D(3, 1, name="shared"), layers.Conv2D(3, 1, name="other")
    x, y = layers.Conv2D(3, 1, name="x")(image), other(image)
    model = keras.Model(image, layers.Concatenate()([shared(x), shared(y)]))
    with pytest.raises(
        ValueError, match=r"'shared' is called 2 times, on tensors with different ranges: .*'x'.*'other'"
    ):
        edge.quantize_aware(model, calibration_data=IMAGES)
    edge.quantize_aware(model, calibration_data=IMAGES, overrides={"shared": "float32"})  # As the message says.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16"])
def test_models_in_half_precision(dtype, tmp_path):
    model = randomized(vit(dtype=dtype))
    for precision in ("float32", "float16"):
        file = edge.export(model, tmp_path / "model.tflite", precision)
        assert edge.verify(model, file, IMAGES).snr_db > (30 if "b" in dtype else 45)


class TestWhatIsRefused:
    def refused(self, model, error, words):
        for function in (
            keras_vit.flatten,
            keras_vit.fuse,
            lambda model: edge.export(model, "unused.tflite"),
            lambda model: edge.quantize_aware(model, calibration_data=IMAGES),
            lambda model: keras_vit.new_head(model, 3),
            lambda model: keras_vit.resize_model(model, (32, 32, 3)),
        ):
            with pytest.raises(error, match=words) as raised:
                function(model)
            assert "\n" not in str(raised.value) and len(str(raised.value)) < 400

    def test_a_lambda_layer(self):
        image = keras.Input((16, 16, 3))
        x = layers.Lambda(lambda pixels: pixels / 2, name="half")(image)
        model = keras.Model(image, layers.Dense(3)(backbone()(x)))
        self.refused(model, ValueError, "'half', a Lambda, cannot be copied.*keras.ops")

    def test_a_layer_that_does_not_say_how_it_was_made(self):
        class Own(keras.layers.Layer):
            def __init__(self, function, **kwargs):
                super().__init__(**kwargs)
                self.function = function

            def call(self, inputs):
                return self.function(inputs)

        image = keras.Input((16, 16, 3))
        model = keras.Model(image, layers.Dense(3)(backbone()(Own(lambda pixels: pixels / 2, name="own")(image))))
        self.refused(model, ValueError, "'own', a Own, cannot be copied")

    def test_a_subclassed_model(self):
        class Own(keras.Model):
            def call(self, inputs):
                return inputs

        model = Own()
        model(IMAGES)
        self.refused(model, TypeError, "functional or a built sequential Keras model is needed.*received Own")

    def test_arrays_that_are_not_those_of_the_inputs(self):
        model = siamese(backbone())
        for data in (IMAGES, [IMAGES], {"left": IMAGES, "other": IMAGES}):
            with pytest.raises(TypeError, match="has 2 inputs, 'left', 'right': pass a dictionary"):
                edge.quantize_aware(model, calibration_data=data)
        with pytest.raises(ValueError, match=r"different lengths: \[8, 3\]"):
            edge.quantize_aware(model, calibration_data=[IMAGES, IMAGES[:3]])

    def test_a_quantized_model_at_another_size_or_with_another_head(self, case):
        _, _, _, quantized = case
        for function in (
            lambda model: keras_vit.new_head(model, 3),
            lambda model: keras_vit.resize_model(model, (32, 32, 3)),
        ):
            with pytest.raises(ValueError, match=r"is quantized.*float model.*then keras_vit.edge.quantize_aware"):
                function(quantized)


def test_several_inputs_come_from_a_dataset_too():
    import tensorflow as tf

    model = siamese(convolutional())
    arrays = edge.quantize_aware(model, calibration_data=PAIRS)
    pairs = tf.data.Dataset.from_tensor_slices(((PAIRS[0], PAIRS[1]), np.zeros(8))).batch(8)
    quantized = edge.quantize_aware(model, calibration_data=pairs)
    np.testing.assert_array_equal(quantized(PAIRS), arrays(PAIRS))
