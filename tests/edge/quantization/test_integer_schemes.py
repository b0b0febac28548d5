"""Schemes in which every operator computes in integers: the file has nothing else, and gives the model's outputs."""

import keras
import numpy as np
import pytest

from keras_vit import edge, training
from keras_vit.edge.files.tflite_graph import read_graph
from keras_vit.edge.quantization.fake_quant import FakeQuant
from keras_vit.layers import GroupNorm, LayerNorm
from tests.models.cases import all_forms, build, forms_of, images_of

TYPES = {"full_int8": {"INT8", "INT32"}, "int8_int16": {"INT16", "INT8", "INT64", "INT32"}}
SNR_DB = {"full_int8": 25, "int8_int16": 30}
# The patches of this form grow to twenty times the class token, which is on one grid with them.
LESS_SNR_DB = {("xcit: class token normalized", "full_int8"): 20, ("tnt: TNT", "full_int8"): 23}
# One form of these families in int8, whose layers have most of the integer forms, and one of all in 16 bits; the others
# are slow.
_FAMILIES = ("vit", "mobilevit", "mobile_former", "efficientvit_msra", "swin", "cait", "xcit")
QUICK = [next(form for form in all_forms() if form.startswith(f"{family}: ")) for family in _FAMILIES]


def tensors(file):
    """Return the tensors that the operators of a file take and give."""
    with open(file, "rb") as opened:
        graph = read_graph(opened.read())
    return [tensor for operator in graph.operators for tensor in (*operator.inputs, *operator.outputs)]


def operators(file):
    """Return the names of the operators of a file."""
    with open(file, "rb") as opened:
        return [operator.name for operator in read_graph(opened.read()).operators]


def snr_db(expected, given):
    expected, given = np.asarray(expected, "float64"), np.asarray(given, "float64")
    return 10 * np.log10(np.square(expected).sum() / np.square(given - expected).sum())


def cases():
    for form in all_forms():
        for scheme in TYPES:
            quick = form in QUICK and (scheme == "full_int8" or form.startswith("vit:"))
            yield pytest.param(form, scheme, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("form", "scheme"), cases())
def test_the_file_has_integers_only_and_gives_the_outputs_of_the_model(form, scheme, tmp_path):
    model = build(form)
    images = images_of(model, 16)
    in_float = dict.fromkeys(getattr(forms_of(form.partition(":")[0]), "IN_FLOAT", ()), "float32")
    quantized = edge.quantize_aware(model, scheme=scheme, calibration_data=images, overrides=in_float)
    file = edge.export(quantized, tmp_path / "model.tflite")
    assert {tensor.dtype for tensor in tensors(file)} <= TYPES[scheme] | ({"FLOAT32"} if in_float else set())
    assert edge.verify(quantized, file, images).snr_db > LESS_SNR_DB.get((form, scheme), SNR_DB[scheme])


def network(middle, shape=(8, 8, 12), units=4):
    """Return a convolution, what `middle` adds to it, and a classifier, with random weights."""
    keras.utils.set_random_seed(0)
    image = keras.Input(shape, name="image")
    x = middle(keras.layers.Conv2D(12, 1, name="first")(image))
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    return keras.Model(image, keras.layers.Dense(units, name="head")(x))


def images(shape=(8, 8, 12), count=16):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class SquarePlusOne(keras.layers.Layer):
    """A user's layer that computes with keras.ops."""

    def call(self, inputs):
        return keras.ops.square(inputs) / 2 + 1


@keras.saving.register_keras_serializable("tests")
class Gated(keras.layers.Layer):
    """A user's layer with weights."""

    def build(self, input_shape):
        self.gate = self.add_weight(name="gate", shape=(input_shape[-1],), initializer="random_normal")

    def call(self, inputs):
        return inputs * keras.ops.sigmoid(inputs * self.gate) - keras.ops.tanh(inputs)


@keras.saving.register_keras_serializable("tests")
class MixedRows(keras.layers.Layer):
    """A user's layer that multiplies its input by a matrix of weights from the left."""

    def build(self, input_shape):
        self.matrix = self.add_weight(name="matrix", shape=(5, input_shape[-2]), initializer="glorot_uniform")

    def call(self, inputs):
        return keras.ops.matmul(self.matrix, inputs)


MIDDLES = {
    "LayerNorm": LayerNorm(),
    "GroupNorm": GroupNorm(),
    "Keras' LayerNormalization": keras.layers.LayerNormalization(),
    "batch normalization behind an activation": lambda x: keras.layers.BatchNormalization()(
        keras.layers.Activation("tanh")(x)
    ),
    "silu": keras.layers.Activation("silu"),
    "hard_silu": keras.layers.Activation("hard_silu"),
    "gelu": keras.layers.Activation("gelu"),
    "softmax": keras.layers.Softmax(),
    "softmax over 64 positions": lambda x: keras.layers.Softmax(axis=1)(keras.layers.Reshape((64, 1, 12))(x)),
    "division": lambda x: x / (keras.ops.exp(x * 0.1) + 1.0),
    "ReLU that is not fused": lambda x: keras.ops.relu(keras.layers.Reshape((4, 16, 12))(x)),
    "concatenation of six": lambda x: keras.layers.Concatenate()(
        [x, *(keras.layers.Conv2D(2, 1)(x) for _ in range(5))]
    ),
    "maximum": lambda x: keras.layers.Maximum()([x, x * 0.5]),
    "maximum with a number": lambda x: keras.ops.maximum(x, 0.3),
    "minimum with a number": lambda x: keras.ops.minimum(x, -0.3),
    "vectors of length 1": lambda x: (
        x * keras.ops.rsqrt(keras.ops.maximum(keras.ops.sum(x * x, axis=1, keepdims=True), 1e-24))
    ),
    "a product with weights on the left": MixedRows(),
    "pooling": lambda x: keras.layers.AveragePooling2D(2)(keras.layers.MaxPooling2D()(x)),
    "slices": lambda x: keras.layers.Conv2D(4, 3, padding="same")(x[:, 1:, ::2]),
    "resizing": lambda x: keras.ops.image.resize(x, (12, 12)),
    "a user's layer": SquarePlusOne(),
    "a user's layer with weights": Gated(),
}


@pytest.mark.parametrize("scheme", ["full_int8", pytest.param("int8_int16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("middle", MIDDLES)
def test_layers_have_integer_forms(middle, scheme, tmp_path):
    model = network(MIDDLES[middle])
    quantized = edge.quantize_aware(model, scheme=scheme, calibration_data=images())
    assert snr_db(model(images()), quantized(images())) > {"full_int8": 15, "int8_int16": 30}[scheme]
    file = edge.export(quantized, tmp_path / "model.tflite")
    assert {tensor.dtype for tensor in tensors(file)} <= TYPES[scheme]
    assert edge.verify(quantized, file, images()).snr_db > SNR_DB[scheme]


def test_a_file_takes_and_gives_integers_on_the_grids_of_its_ends(tmp_path):
    model = network(LayerNorm())
    file = edge.export(model, tmp_path / "model.tflite", "full_int8", calibration_data=images())
    with open(file, "rb") as opened:
        graph = read_graph(opened.read())
    assert [tensor.dtype for tensor in (*graph.inputs, *graph.outputs)] == ["INT8", "INT8"]
    assert all(tensor.quantized for tensor in (*graph.inputs, *graph.outputs))
    assert edge.verify(model, file, images()).snr_db > 25


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_training_knows_whether_the_scores_are_logits(activation):
    model = build("vit: average", classifier_activation=activation)
    quantized = edge.quantize_aware(model, scheme="full_int8", calibration_data=images_of(model, 4))
    assert training.gives_logits(quantized) is (activation is None)


def test_a_model_trains_is_saved_loaded_and_exported(tmp_path):
    model = build("vit: average")
    pixels = images_of(model, 16)
    quantized = edge.quantize_aware(model, scheme="full_int8", calibration_data=pixels)
    before = {
        layer.name: layer.range for layer in quantized.layers if isinstance(layer, FakeQuant) and not layer.limits
    }
    quantized.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = quantized.fit(pixels, np.arange(16) % 5, epochs=6, batch_size=8, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    after = {name: quantized.get_layer(name).range for name in before}
    assert sum(after[name] != before[name] for name in before) > len(before) / 2
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(pixels), quantized(pixels))
    file = edge.export(loaded, tmp_path / "model.tflite")
    assert edge.verify(quantized, file, pixels).snr_db > 25


def test_layers_kept_in_float_or_in_16_bits(tmp_path):
    model = build("vit: average")
    pixels = images_of(model, 16)
    overrides = {"block_0.mlp": "int8_int16", "block_1.mlp": "hybrid_int8", "head": "float32"}
    quantized = edge.quantize_aware(model, scheme="full_int8", calibration_data=pixels, overrides=overrides)
    file = edge.export(quantized, tmp_path / "model.tflite")
    with open(file, "rb") as opened:
        graph = read_graph(opened.read())
    given = {operator.outputs[0].name: operator.outputs[0].dtype for operator in graph.operators}
    assert given["block_0.mlp.expand"] == "INT16" and given["block_0.attention.query"] == "INT8"
    assert given["block_1.mlp.expand"] == "INT8" and given["block_1.mlp.activation"] == "FLOAT32"
    assert given["head"] == "FLOAT32"
    assert edge.verify(quantized, file, pixels).snr_db > 25


def test_long_rows_of_a_softmax_keep_their_small_probabilities(tmp_path):
    """Probabilities of 1/784 would be 0 on the grid of the softmax operator, which has steps of 1/256."""

    def middle(x):
        rows = keras.layers.Softmax()(keras.layers.Permute((2, 1))(keras.layers.Reshape((784, 12))(x)))
        return keras.layers.Reshape((12, 28, 28))(rows * 100.0)

    shape = (28, 28, 12)
    model = network(middle, shape)
    quantized = edge.quantize_aware(model, scheme="full_int8", calibration_data=images(shape))
    rounded = keras.Model(quantized.inputs, quantized.get_layer("softmax.fake_quant").output)(images(shape))
    assert len(np.unique(rounded)) > 50
    np.testing.assert_allclose(np.sum(rounded, axis=-1), 1, atol=0.1)


@pytest.mark.parametrize("scheme", ["full_int8", "int8_int16"])
@pytest.mark.parametrize("masked", [-100.0, -(2.0**15)])
def test_scores_beside_a_mask_keep_their_grid(scheme, masked, tmp_path):
    """With a grid down to the mask, scores would have steps of 0.4 or more, and of 128 for the larger one."""

    def middle(x):
        scores = keras.layers.Dense(8, name="scores")(keras.layers.Reshape((8, 96))(x))
        mask = np.where(np.eye(8), masked, np.linspace(-1, 1, 8)).astype("float32")
        return keras.layers.Reshape((8, 8, 1))(keras.layers.Softmax(name="softmax")(scores + mask))

    model = network(middle)
    quantized = edge.quantize_aware(model, scheme=scheme, calibration_data=images())
    names = {model: "softmax", quantized: "softmax.fake_quant"}
    expected, given = (keras.Model(each.inputs, each.get_layer(name).output)(images()) for each, name in names.items())
    np.testing.assert_array_equal(np.asarray(given)[:, np.eye(8, dtype=bool)], 0)
    assert snr_db(expected, given) > {"full_int8": 20, "int8_int16": 40}[scheme]
    file = edge.export(quantized, tmp_path / "model.tflite")
    assert edge.verify(quantized, file, images()).snr_db > SNR_DB[scheme]


@pytest.mark.parametrize("scheme", ["hybrid_int8", "full_int8", "int8_int16", "symmetric_int8"])
def test_large_biases_fit_behind_inputs_and_channels_of_zeros(scheme, tmp_path):
    """Hidden units that are zero for all images, and an output without weights, have no natural step for a bias."""
    inputs = keras.Input((12,))
    x = keras.layers.Dense(8, activation="relu", name="dead")(inputs)
    y = keras.layers.Dense(4, name="biased")(x)
    model = keras.Model(inputs, [y, keras.layers.Dense(4, name="alive")(inputs)])
    kernel, bias = model.get_layer("dead").get_weights()
    model.get_layer("dead").set_weights([kernel, bias - 100])
    for name in ("biased", "alive"):
        kernel, _ = model.get_layer(name).get_weights()
        kernel[:, 1] = 0
        model.get_layer(name).set_weights([kernel, np.float32([3, 2.5, -2, 0.1])])
    data = np.random.default_rng(0).standard_normal((16, 12)).astype(np.float32)
    quantized = edge.quantize_aware(model, scheme=scheme, calibration_data=data)
    name = "model.onnx" if scheme == "symmetric_int8" else "model.tflite"
    file = edge.export(quantized, tmp_path / name, verify=data)
    assert edge.verify(model, file, data).snr_db > 35


def test_sensitivity_names_the_operators():
    model = build("vit: average")
    pixels = images_of(model, 8)
    result = edge.sensitivity(model, pixels, "full_int8", calibration_data=pixels)
    costs = {row.layer: row.snr_db for row in result.rows}
    assert {"block_0.norm1.rsqrt", "block_0.attention.softmax", "head"} <= costs.keys()
    assert result.snr_db < min(costs.values())


@keras.saving.register_keras_serializable("tests")
class Sine(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.sin(inputs)


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (Sine(name="mine"), "'mine', a Sine, .* Sin"),
        (keras.layers.LeakyReLU(name="leaky"), "'leaky', a LeakyReLU, .* LeakyRelu"),
    ],
    ids=["a user's", "Keras'"],
)
def test_a_layer_without_an_integer_form_is_named(middle, words):
    with pytest.raises(ValueError, match=words):
        edge.quantize_aware(network(middle), scheme="full_int8", calibration_data=images())


def test_a_layer_without_an_integer_form_stays_in_float_if_asked_to(tmp_path):
    model = network(Sine(name="mine"))
    quantized = edge.quantize_aware(model, scheme="full_int8", calibration_data=images(), overrides={"mine": "float32"})
    file = edge.export(quantized, tmp_path / "model.tflite")
    kinds = operators(file)
    assert kinds.count("DEQUANTIZE") == kinds.count("QUANTIZE") == 1
    assert edge.verify(quantized, file, images()).snr_db > 30


def test_other_wrong_uses():
    model = network(LayerNorm())
    with pytest.raises(ValueError, match="int8_weights"):
        edge.quantize_aware(model, scheme="full_int8", calibration_data=images(), overrides={"head": "int8_weights"})
    with pytest.raises(ValueError, match="matches no layer"):
        edge.quantize_aware(model, scheme="full_int8", calibration_data=images(), overrides={"tail": "float32"})
    with pytest.raises(ValueError, match="calibration_data"):
        edge.quantize_aware(model, scheme="int8_int16")
    with pytest.raises(ValueError, match="operators must be"):
        edge.Scheme("mine", weights="int8", activations="int16")
