"""ONNX files give the outputs of their models, have the operators that runtimes know best, and say what they are."""

import keras
import numpy as np
import onnx
import pytest
from keras import ops

from keras_vit import edge, fuse
from keras_vit.edge.quantization.fake_quant import FakeQuant
from keras_vit.graph.rebuilding import rebuild
from tests.edge.models import IMAGES
from tests.edge.models import vit as make_vit
from tests.models.cases import all_forms, build, images_of

DYNAMIC = {"Shape", "Gather", "Cast", "If", "Loop", "Expand", "ConstantOfShape", "Einsum"}


def outputs_of(model, images):
    return [ops.convert_to_numpy(output) for output in keras.tree.flatten(model(images, training=False))]


def assert_equal(given, wanted, tolerance=1e-5):
    for a, b in zip(given, wanted, strict=True):
        assert a.shape == b.shape and a.dtype == np.float32
        assert np.abs(a - b).max() < tolerance * np.abs(b).max()


def snr_db(given, wanted):
    return 10 * np.log10(np.square(wanted).sum() / np.square(given - wanted).sum())


@pytest.mark.parametrize("form", sorted(all_forms()))
def test_every_form_of_every_family(form, tmp_path, open_onnx):
    model = build(form)
    file = open_onnx(edge.export(model, tmp_path / "model.onnx"))
    images = images_of(model, 2)
    assert_equal(file(images), outputs_of(model, images))
    assert not DYNAMIC & set(file.count)
    assert file.count["Gelu"] + file.count["LayerNormalization"] + file.count["Conv"] + file.count["Sigmoid"] > 0
    # Each node has the name of the layer that it comes from, or of the kind of a plain operation.
    operations = fuse(model).operations
    names = {"image", *(each.name for each in operations), *(type(each).__name__ for each in operations)}
    assert {node.name.split("/")[0] for node in file.proto.graph.node} <= names
    # Every shape is static.
    for value in [*file.proto.graph.input, *file.proto.graph.output, *file.proto.graph.value_info]:
        assert all(size.dim_value > 0 for size in value.type.tensor_type.shape.dim)


def test_normalization_softmax_and_gelu_are_single_operators(vit, tmp_path, open_onnx):
    file = open_onnx(edge.export(vit, tmp_path / "model.onnx"))
    assert file.count["LayerNormalization"] == 2 * 1 + 1
    assert file.count["Softmax"] == file.count["Gelu"] == 1
    assert not {"ReduceMean", "Erf", "Sqrt", "Exp"} & set(file.count)
    assert [entry.version for entry in file.proto.opset_import] == [20]
    assert [value.name for value in file.proto.graph.input] == ["image"]
    assert [value.name for value in file.proto.graph.output] == vit.output_names


def test_a_norm_that_skips_its_mean_has_one_that_is_zero(vit):
    """So LayerNormalization, which subtracts the mean, gives the same."""
    fused = fuse(vit)
    norm = fused.get_layer("block_0.norm1")
    assert not norm.subtract_mean
    (taken,) = outputs_of(keras.Model(fused.inputs, norm.input), IMAGES)
    assert np.abs(taken.mean(axis=-1)).max() < 1e-6 * np.abs(taken).max()


def test_opset_17_has_gelu_in_pieces(vit, tmp_path, open_onnx):
    file = open_onnx(edge.export(vit, tmp_path / "model.onnx", opset=17))
    assert file.count["Erf"] == 1 and file.count["Gelu"] == 0 and file.count["LayerNormalization"] == 3
    assert_equal(file(IMAGES), outputs_of(vit, IMAGES))


@pytest.mark.parametrize("form", ["vit: registers", "mobile_former: grouped", "efficientvit_msra: three stages"])
def test_another_batch_size(form, tmp_path, open_onnx):
    model = build(form)
    file = open_onnx(edge.export(model, tmp_path / "model.onnx", batch_size=2))
    images = images_of(model, 4)
    assert file.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert_equal(file(images), outputs_of(model, images))


def test_the_same_model_gives_the_same_file(tmp_path):
    model = build("efficientvit_msra: three stages")
    first, second = (tmp_path / name / "m.onnx" for name in ("first", "second"))
    assert all(edge.export(model, path) for path in (first, second))
    assert first.read_bytes() == second.read_bytes()


def test_several_outputs_have_the_names_and_the_order_of_the_model(many_outputs_model, images, tmp_path, open_onnx):
    file = open_onnx(edge.export(many_outputs_model, tmp_path / "model.onnx"))
    assert [value.name for value in file.proto.graph.output] == many_outputs_model.output_names
    assert_equal(file(images), outputs_of(many_outputs_model, images))


def test_outputs_that_are_rearranged_or_the_input_itself(tmp_path, open_onnx):
    image = keras.Input((4, 6, 3))
    x = keras.layers.Conv2D(5, 3, name="conv")(image)
    rows = keras.layers.Permute((3, 1, 2), name="first")(x)
    model = keras.Model(image, [x, rows, keras.layers.Identity(name="same")(image), ops.reshape(x, (-1, 40))])
    file = open_onnx(edge.export(model, tmp_path / "model.onnx"))
    images = images_of(model)
    assert_equal(file(images), outputs_of(model, images))


class TestLayouts:
    def test_layers_between_convolutions_need_no_transposes(self, tmp_path, open_onnx):
        image = keras.Input((16, 12, 3))
        x = keras.layers.ZeroPadding2D(1)(image)
        x = keras.layers.Conv2D(8, 3, strides=2)(x)
        x = keras.layers.BatchNormalization()(x)
        left = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
        right = keras.layers.Conv2D(8, 1)(keras.layers.Activation("silu")(x))
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(right)
        gate = keras.layers.Conv2D(8, 1, activation="sigmoid")(gate)
        x = keras.layers.Concatenate()([left, keras.layers.Multiply()([right, gate])])
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(x[:, 1:, :, 3:])
        x = keras.layers.AveragePooling2D(2, padding="same")(x)
        x = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
        model = keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
        file = open_onnx(edge.export(model, tmp_path / "model.onnx"))
        images = images_of(model)
        assert_equal(file(images), outputs_of(model, images))
        assert file.count["Transpose"] == 1  # Of the image.
        assert file.count["Pad"] == 0  # The convolution pads.

    def test_windows_are_images_of_a_batch(self, tmp_path, open_onnx):
        model = build("efficientvit_msra: three stages")
        file = open_onnx(edge.export(model, tmp_path / "model.onnx"))
        kernels = {name: tensor.dims for name, tensor in file.initializers().items()}
        shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in file.proto.graph.value_info
        }
        nearby = [node for node in file.proto.graph.node if "stage_0" in node.name and "nearby" in node.name]
        convolutions = [node for node in nearby if node.op_type == "Conv"]
        # The map of 10 x 8 is padded to four windows of 7 x 7.
        assert convolutions and all(shapes[node.output[0]][0] == 4 for node in convolutions)
        assert all(kernels[node.input[1]][1] == 1 for node in convolutions)
        assert not [node for node in nearby if node.op_type in ("Pad", "Slice")]


class TestFloat16:
    @pytest.mark.parametrize("form", ["vit: class token", "efficientvit: series B", "mobilevit: MobileViTV2"])
    def test_it_is_close_and_keeps_some_operators_in_float32(self, form, tmp_path, open_onnx):
        model = build(form)
        file = open_onnx(edge.export(model, tmp_path / "model.onnx", "float16"))
        images = images_of(model)
        (given,), (wanted,) = file(images), outputs_of(model, images)
        assert snr_db(given, wanted) > 40
        types = self.types(file.proto)
        for node in file.proto.graph.node:
            taken = {types[name] for name in node.input if types.get(name) in ("FLOAT", "FLOAT16")}
            in_full = node.op_type in ("LayerNormalization", "InstanceNormalization", "Softmax", "Div")
            if node.op_type in ("Conv", "Gemm", "Gelu", "HardSwish"):
                assert taken == {"FLOAT16"}, node.name
            if in_full:
                assert taken == {"FLOAT"}, node.name

    def test_there_are_casts_only_around_these_and_at_the_ends(self, vit, tmp_path, open_onnx):
        file = open_onnx(edge.export(vit, tmp_path / "model.onnx", "float16"))
        assert file.count["Cast"] == 2 * (file.count["LayerNormalization"] + file.count["Softmax"]) + 2
        kernels = [tensor for tensor in file.proto.graph.initializer if len(tensor.dims) > 1]
        assert {tensor.data_type for tensor in kernels} == {onnx.TensorProto.FLOAT16}

    @staticmethod
    def types(proto):
        values = [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]
        found = {value.name: value.type.tensor_type.elem_type for value in values}
        found |= {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
        return {name: onnx.TensorProto.DataType.Name(kind) for name, kind in found.items()}


class TestInt8:
    def test_the_file_rounds_like_the_model(self, vit, tmp_path, open_onnx):
        # With ranges that nothing exceeds: the file has -128 for what is below a range, and the model -127.
        model = edge.quantize_aware(vit, scheme="symmetric_int8", calibration_data=IMAGES)
        for layer in model.layers:
            if isinstance(layer, FakeQuant):
                layer.range = tuple(1.5 * end for end in layer.range)
        file = open_onnx(edge.export(model, tmp_path / "model.onnx"), as_written=True)
        # The file leaves one rounding out, that of a softmax's input.
        name = "block_0.attention.scores.fake_quant"

        def call(layer, *args, **kwargs):
            return args[0] if layer.name == name else layer(*args, **kwargs)

        (given,), (expected,) = file(IMAGES), outputs_of(rebuild(model, call=call), IMAGES)
        assert snr_db(given, expected) > 60
        assert snr_db(given, outputs_of(vit, IMAGES)[0]) < 30

    def test_it_agrees_with_the_model(self, symmetric_vit, tmp_path, open_onnx):
        file = open_onnx(edge.export(symmetric_vit, tmp_path / "model.onnx"))
        (given,), (wanted,) = file(IMAGES), outputs_of(symmetric_vit, IMAGES)
        assert snr_db(given, wanted) > 24 and (given.argmax(-1) == wanted.argmax(-1)).mean() > 0.9

    def test_it_is_what_tensorrt_takes(self, symmetric_vit, tmp_path, open_onnx):
        file = open_onnx(edge.export(symmetric_vit, tmp_path / "model.onnx"))
        constants = file.initializers()
        weights = 0
        for node in file.proto.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                zero_points = onnx.numpy_helper.to_array(constants[node.input[2]])
                assert zero_points.dtype == np.int8 and not zero_points.any()
                weights += node.input[0] in constants
        # Eight products of the block, two of which have no weights; patch embedding and head.
        assert weights == 6 + 2
        kernels = [tensor for tensor in constants.values() if len(tensor.dims) > 1 and tensor.dims[0] > 1]
        assert {tensor.data_type for tensor in kernels} == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}
        biases = [node.input[2] for node in file.proto.graph.node if node.op_type in ("Gemm", "Conv")]
        assert {constants[name].data_type for name in biases} == {onnx.TensorProto.FLOAT}

    def test_each_output_channel_has_a_scale(self, symmetric_vit, tmp_path, open_onnx):
        file = open_onnx(edge.export(symmetric_vit, tmp_path / "model.onnx"))
        constants = file.initializers()
        kernel = ops.convert_to_numpy(symmetric_vit.get_layer("block_0.mlp.expand").kernel)
        (node,) = [
            node
            for node in file.proto.graph.node
            if node.name.startswith("block_0.mlp.expand/") and node.op_type == "DequantizeLinear"
        ]
        stored, scales = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[:2])
        np.testing.assert_allclose(scales, np.abs(kernel).max(axis=0) / 127, rtol=1e-6)
        np.testing.assert_allclose(stored * scales, kernel, atol=0.51 * scales.max())

    def test_the_ranges_are_those_of_the_model(self, symmetric_vit, tmp_path, open_onnx):
        grid = symmetric_vit.get_layer("block_0.mlp.expand.fake_quant")
        before = grid.range
        wanted = outputs_of(symmetric_vit, IMAGES)[0]
        grid.range = (-0.01, 0.01)
        try:
            file = open_onnx(edge.export(symmetric_vit, tmp_path / "model.onnx"))
            assert snr_db(file(IMAGES)[0], outputs_of(symmetric_vit, IMAGES)[0]) > 25 > snr_db(file(IMAGES)[0], wanted)
        finally:
            grid.range = before

    def test_weights_alone(self, vit, tmp_path, open_onnx):
        file = open_onnx(edge.export(vit, tmp_path / "model.onnx", "int8_weights"))
        assert file.count["DequantizeLinear"] == 6 + 2 and not file.count["QuantizeLinear"]
        assert snr_db(file(IMAGES)[0], outputs_of(vit, IMAGES)[0]) > 30

    def test_overrides(self, vit, tmp_path, open_onnx):
        overrides = {"block_0.mlp": "float32", "head": "int8_weights"}
        file = open_onnx(
            edge.export(vit, tmp_path / "model.onnx", "symmetric_int8", calibration_data=IMAGES, overrides=overrides)
        )
        rounded = {node.name.split("/")[0] for node in file.proto.graph.node if node.op_type == "DequantizeLinear"}
        assert "head" in rounded and "block_0.attention.query" in rounded
        assert not [name for name in rounded if name.startswith("block_0.mlp.")]

    @pytest.mark.parametrize("form", ["mobilevit: MobileViT", "efficientvit: series B", "mobile_former: one block"])
    def test_other_families(self, form, tmp_path, open_onnx):
        model = build(form)
        images = images_of(model, 8)
        quantized = edge.quantize_aware(model, scheme="symmetric_int8", calibration_data=images)
        file = open_onnx(edge.export(quantized, tmp_path / "model.onnx"))
        assert snr_db(file(images)[0], outputs_of(quantized, images)[0]) > 28

    def test_a_float_model_is_calibrated(self, vit, tmp_path, open_onnx):
        file = open_onnx(edge.export(vit, tmp_path / "model.onnx", "symmetric_int8", calibration_data=IMAGES))
        assert snr_db(file(IMAGES)[0], outputs_of(vit, IMAGES)[0]) > 20 and file.count["QuantizeLinear"]

    def test_a_quantized_model_is_exported_in_float_by_name(self, vit, symmetric_vit, tmp_path, open_onnx):
        file = open_onnx(edge.export(symmetric_vit, tmp_path / "model.onnx", "float32"))
        assert not file.count["QuantizeLinear"]
        assert_equal(file(IMAGES), outputs_of(vit, IMAGES), 1e-4)


@pytest.mark.parametrize(
    ("precision", "flags"), [("float32", ""), ("float16", " --fp16"), ("symmetric_int8", " --fp16 --int8")]
)
def test_the_file_says_what_it_is(symmetric_vit, precision, flags, tmp_path, open_onnx):
    metadata = open_onnx(edge.export(symmetric_vit, tmp_path / "m.onnx", precision, opset=18)).metadata
    assert metadata["precision"] == precision and metadata["opset"] == "18"
    assert metadata["trtexec_10"] == f"trtexec --onnx=m.onnx --saveEngine=m.engine{flags}"
    assert metadata["trtexec_11"] == "trtexec --onnx=m.onnx --saveEngine=m.engine"
    assert metadata["keras"] == keras.__version__


_ACTIVATIONS = "relu relu6 sigmoid silu hard_sigmoid hard_silu gelu tanh elu selu softplus softsign exponential softmax"


@pytest.mark.parametrize("activation", _ACTIVATIONS.split())
def test_activations(activation, open_onnx, tmp_path):
    image = keras.Input((3, 4, 6))
    model = keras.Model(image, keras.layers.Activation(activation)(image))
    images = 3 * images_of(model)
    assert_equal(open_onnx(edge.export(model, tmp_path / "m.onnx"))(images), outputs_of(model, images))


def _layers():
    image = keras.Input((6, 8, 4))
    layers = keras.layers
    x = layers.Rescaling(0.5, offset=0.1)(image)
    yield "convolutions", image, layers.Conv2D(6, (3, 2), dilation_rate=(1, 2), padding="same", groups=2)(x)
    yield "strides", image, layers.Conv2D(5, 3, strides=2, padding="same", activation="relu")(x)
    yield "depthwise", image, layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(x)
    yield "maximum", image, layers.Maximum()([x, layers.Minimum()([x * 2.0, layers.Subtract()([x, image])])])
    yield "average", image, layers.Average()([x, image, x / 3.0])
    yield "norms", image, layers.LayerNormalization(epsilon=1e-3)(layers.BatchNormalization()(layers.ReLU(0.7)(x)))
    yield "softmax", image, layers.Softmax(axis=2)(layers.LeakyReLU(0.1)(x))
    yield "indices", image, ops.concatenate([x[:, 2], x[:, -1, :, ...], ops.squeeze(x[:, 3:4], 1)], axis=1)
    yield "shapes", image, layers.Dense(3)(layers.Flatten()(layers.Permute((3, 1, 2))(layers.Cropping2D((1, 2))(x))))
    yield "products", image, ops.matmul(x, ops.swapaxes(x, 2, 3)) + ops.expand_dims(ops.sigmoid(x[:, 0, :, :1]), 1)
    yield "pooling", image, layers.GlobalMaxPooling2D()(layers.UpSampling2D((2, 3))(x))


@pytest.mark.parametrize("name", [name for name, *_ in _layers()])
def test_keras_layers(name, tmp_path, open_onnx):
    image, output = next(rest for found, *rest in _layers() if found == name)
    model = keras.Model(image, output)
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(np.abs(random.normal(size=variable.shape)) + 0.1)
    images = images_of(model)
    assert_equal(open_onnx(edge.export(model, tmp_path / "m.onnx"))(images), outputs_of(model, images))


@keras.saving.register_keras_serializable("tests")
class Twist(keras.layers.Layer):
    """A layer that only this file knows."""

    def call(self, inputs):
        return ops.erf(inputs) + ops.flip(inputs, 2)


class TestRegisteringAWriter:
    @pytest.fixture
    def model(self):
        image = keras.Input((6, 4, 3))
        x = Twist(name="twisted")(keras.layers.Conv2D(5, 3, padding="same")(image))
        return keras.Model(image, keras.layers.Conv2D(2, 3)(x))

    @pytest.fixture
    def without_writers_of_tests(self, monkeypatch):
        from keras_vit.edge.onnx import writers

        monkeypatch.setattr(writers, "_WRITERS", dict(writers._WRITERS))

    def test_a_layer_without_one(self, model, tmp_path):
        with pytest.raises(ValueError, match=r"'twisted' of class Twist.*edge\.register_onnx_writer"):
            edge.export(model, tmp_path / "m.onnx")
        assert not list(tmp_path.iterdir())

    def test_a_lambda_layer(self, tmp_path):
        image = keras.Input((6, 4, 3))
        model = keras.Model(image, keras.layers.Lambda(lambda x: x + 1, name="plus")(image))
        with pytest.raises(ValueError, match=r"'plus' of class Lambda; make its function a layer class"):
            edge.export(model, tmp_path / "m.onnx")

    def test_a_layer_with_one(self, model, tmp_path, open_onnx, without_writers_of_tests):
        @edge.register_onnx_writer(Twist)
        def write(build, layer, x):
            backwards = build.op("Gather", x, np.array([3, 2, 1, 0]), axis=2)
            return build.op("Add", build.op("Erf", x), backwards)

        images = images_of(model)
        assert_equal(open_onnx(edge.export(model, tmp_path / "m.onnx"))(images), outputs_of(model, images))

    def test_a_writer_that_gives_another_shape(self, model, tmp_path, without_writers_of_tests):
        edge.register_onnx_writer(Twist)(lambda build, layer, x: build.slice(x, 1, 0, 2))
        with pytest.raises(ValueError, match=r"writer of 'twisted'.*\(1, 2, 4, 5\).*\(None, 6, 4, 5\)"):
            edge.export(model, tmp_path / "m.onnx")

    def test_a_subclass_needs_its_own(self, tmp_path):
        class Other(keras.layers.Dense):
            pass

        image = keras.Input((6, 4, 3))
        with pytest.raises(ValueError, match="of class Other"):
            edge.export(keras.Model(image, Other(2)(image)), tmp_path / "m.onnx")

    def test_what_is_no_layer(self):
        with pytest.raises(TypeError, match="received 'Dense'"):
            edge.register_onnx_writer("Dense")


@keras.saving.register_keras_serializable("tests")
def cube(x):
    return x * x * x


class TestBadInput:
    @pytest.mark.parametrize("opset", [0, 16, 21])
    def test_an_opset_that_is_too_old_or_too_new(self, vit, opset, tmp_path):
        with pytest.raises(ValueError, match=f"from 17.*to 20.*received {opset}"):
            edge.export(vit, tmp_path / "m.onnx", opset=opset)

    @pytest.mark.parametrize("precision", ["dynamic_int8", "int4_weights"])
    def test_a_precision_that_onnx_does_not_have(self, vit, precision, tmp_path):
        with pytest.raises(ValueError, match=f"ONNX file must be one of.*received '{precision}'"):
            edge.export(vit, tmp_path / "m.onnx", precision)

    def test_an_unknown_precision(self, vit, tmp_path):
        with pytest.raises(ValueError, match="received 'int3'"):
            edge.export(vit, tmp_path / "m.onnx", "int3")

    def test_ranges_that_are_not_symmetric(self, quantized_vit, tmp_path):
        with pytest.raises(ValueError, match=r"is not symmetric, and TensorRT refuses that.*scheme='symmetric_int8'"):
            edge.export(quantized_vit, tmp_path / "m.onnx")

    def test_a_quantized_model_in_another_scheme(self, symmetric_vit, tmp_path):
        with pytest.raises(
            ValueError, match="quantized with 'symmetric_int8' and cannot be exported as 'int8_weights'"
        ):
            edge.export(symmetric_vit, tmp_path / "m.onnx", "int8_weights")

    def test_int8_without_ranges(self, vit, tmp_path):
        with pytest.raises(ValueError, match="pass calibration_data"):
            edge.export(vit, tmp_path / "m.onnx", "symmetric_int8")

    def test_a_batch_of_nothing(self, vit, tmp_path):
        with pytest.raises(ValueError, match="batch_size must be at least 1; received 0"):
            edge.export(vit, tmp_path / "m.onnx", batch_size=0)

    def test_an_argument_that_is_not_for_tflite(self, vit, tmp_path):
        with pytest.raises(ValueError, match=r"A \.tflite file has no opset; received opset=20"):
            edge.export(vit, tmp_path / "m.tflite", opset=20)

    def test_images_of_any_size(self, tmp_path):
        image = keras.Input((None, None, 3))
        model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image))
        with pytest.raises(ValueError, match=r"images of any size.*fixed input_shape"):
            edge.export(model, tmp_path / "m.onnx")

    def test_an_activation_without_a_writer(self, tmp_path):
        image = keras.Input((6, 4, 3))
        model = keras.Model(image, keras.layers.Dense(2, activation=cube, name="own")(image))
        with pytest.raises(ValueError, match=r"no ONNX writer for the activation 'cube' of the layer 'own'"):
            edge.export(model, tmp_path / "m.onnx")

    def test_a_failed_export_leaves_an_existing_file(self, tmp_path):
        (tmp_path / "m.onnx").write_bytes(b"before")
        with pytest.raises(ValueError, match="received 16"):
            edge.export(make_vit(), tmp_path / "m.onnx", opset=16)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("m.onnx", b"before")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "nodes", "count"),
    [
        ("vit_ti16", 330, {"LayerNormalization": 25, "Gelu": 12}),
        ("mobilevit_s", None, {}),
        ("mobilevitv2_100", None, {}),
        ("mobile_former_294m", None, {}),
        ("efficientvit_b1", None, {}),
        ("efficientvit_m2", None, {}),
    ],
)
def test_models_in_their_published_sizes(name, nodes, count, tmp_path, open_onnx):
    import keras_vit

    model = keras_vit.create_model(name)
    file = open_onnx(edge.export(model, tmp_path / "model.onnx"))
    images = images_of(model, 2)
    assert_equal(file(images), outputs_of(model, images))
    assert nodes is None or sum(file.count.values()) <= nodes
    assert {op_type: file.count[op_type] for op_type in count} == count
    if name == "efficientvit_m2":
        assert file.count["Transpose"] <= 12
