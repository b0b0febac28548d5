"""Write the integer form of a model to a .tflite file, one operator for each layer or operation."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_vit.edge.conversion.tflite_file import TFLiteFile
from keras_vit.edge.quantization.integer_layers import AddConstant, MultiplyConstant
from keras_vit.edge.quantization.integer_plan import BITS, IntegerPlan, leaf_of
from keras_vit.edge.quantization.plan import LARGEST_BIAS, Grid
from keras_vit.graph.reading import calls_before

# Versions of the operators in float, 8 bits and 16 bits; from TensorFlow's lite/tools/versioning/op_version.cc.
_VERSIONS = {
    "ADD": (1, 2, 3),
    "AVERAGE_POOL_2D": (1, 2, 3),
    "BATCH_MATMUL": (1, 2, 3),
    "CONCATENATION": (1, 2, 3),
    "CONV_2D": (1, 3, 4),
    "DEPTHWISE_CONV_2D": (1, 3, 5),
    "DEQUANTIZE": (1, 2, 3),
    "EXP": (1, 2, 2),
    "FULLY_CONNECTED": (5, 5, 7),
    "GELU": (1, 2, 2),
    "LOGISTIC": (1, 2, 3),
    "MAXIMUM": (1, 2, 4),
    "MAX_POOL_2D": (1, 2, 3),
    "MEAN": (1, 2, 3),
    "MINIMUM": (1, 2, 4),
    "MUL": (1, 2, 4),
    "PAD": (1, 2, 3),
    "QUANTIZE": (1, 2, 3),
    "REDUCE_MAX": (1, 2, 3),
    "RELU": (1, 2, 2),
    "RELU6": (1, 2, 2),
    "RESHAPE": (1, 1, 1),
    "RESIZE_BILINEAR": (3, 3, 4),
    "RSQRT": (1, 2, 3),
    "SOFTMAX": (1, 2, 3),
    "STRIDED_SLICE": (1, 2, 4),
    "SUB": (1, 2, 5),
    "SUM": (1, 2, 3),
    "TANH": (1, 2, 3),
    "TRANSPOSE": (1, 2, 4),
}
_TYPES = {"float32": "FLOAT32", "int8": "INT8", "int16": "INT16"}
_INTEGERS = {"int8": np.int8, "int16": np.int16}
_ACTIVATIONS = {None: 0, "RELU": 1, "RELU6": 3}
_PADDING = {"same": 0, "valid": 1}


@dataclasses.dataclass(frozen=True)
class _Value:
    """A tensor of the file.

    Attributes:
        index: Its number in the file.
        kind: "int8", "int16" or "float32".
        grid: The name of its grid; "" in float.
        shape: Its shape.
    """

    index: int
    kind: str
    grid: str
    shape: tuple[int, ...]


def write_integer_file(form: keras.Model, plan: IntegerPlan, ranges: Mapping[str, tuple[float, float]]) -> bytes:
    """Return the content of the .tflite file of an integer form, for one image.

    Args:
        form: A model returned by `integer_form`, with the weights to write.
        plan: Its plan.
        ranges: The smallest and the largest value of each grid of the plan.

    Raises:
        ImportError: ai-edge-litert, which has the file format's schema, is not installed.
    """
    return _Writer(plan, ranges).write(form)


class _Writer:
    def __init__(self, plan, ranges):
        self.plan = plan
        self.file = TFLiteFile()
        self.grids = {name: grid.step_and_zero(*(grid.limits or ranges[name])) for name, grid in plan.grids.items()}
        self._converted: dict[tuple[int, str], _Value] = {}
        self._values: dict[int, _Value] = {}  # By id of a Keras tensor.

    def write(self, form):
        inputs = {}
        for call in calls_before(form.outputs):
            operation = call.operation
            (output,) = call.output_tensors
            shape = (1, *output.shape[1:])
            row = self.plan.rows[operation.name]
            if isinstance(operation, keras.layers.InputLayer):
                value = self.tensor(operation.name, shape, row)
                inputs[operation.name] = value.index
            else:
                args, kwargs = call.arguments.fill_in(self._values)
                value = self._call(operation, row, shape, args, kwargs)
            self._values[id(output)] = value
        outputs = {f"output_{i}": self._values[id(tensor)].index for i, tensor in enumerate(form.outputs)}
        return self.file.content(inputs, outputs)

    def tensor(self, name, shape, row) -> _Value:
        """Add the tensor that an operator gives."""
        kind = row.activations if row.output else "float32"
        return self.activation(name, shape, kind, row.output)

    def activation(self, name, shape, kind, grid) -> _Value:
        scale = ([self.grids[grid][0]], [self.grids[grid][1]]) if grid else ()
        return _Value(self.file.tensor(name, shape, _TYPES[kind], *scale), kind, grid, tuple(shape))

    def constant(self, name, values, kind, step=None, zero=0, axis=None) -> int:
        """Add a constant, rounded to a grid unless its type is float32."""
        values = np.asarray(values, np.float32)
        if kind == "float32":
            return self.file.tensor(name, values.shape, "FLOAT32", content=values)
        steps = np.atleast_1d(np.asarray(step, np.float32))
        per_axis = steps if axis is None else steps.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        limits = np.iinfo(_INTEGERS[kind])
        integers = np.clip(np.rint(values / per_axis + zero), limits.min, limits.max).astype(_INTEGERS[kind])
        zeros = np.full(len(steps), zero)
        return self.file.tensor(name, values.shape, _TYPES[kind], steps, zeros, axis or 0, integers)

    def numbers(self, name, values) -> int:
        """Add a constant of integers that mean themselves, such as a shape."""
        values = np.asarray(values, np.int32)
        return self.file.tensor(name, values.shape, "INT32", content=values)

    def operator(self, name, kind, inputs, output: _Value, options=None, **settings):
        version = _VERSIONS[name][("float32", "int8", "int16").index(kind)]
        self.file.operator(name, inputs, [output.index], version, options, **settings)

    def converted(self, value: _Value, kind: str, grid: str) -> _Value:
        """Return a tensor on another grid, or in float."""
        if value.grid == grid:
            return value
        key = value.index, grid
        if key not in self._converted:
            name = f"{self.file.name(value.index)}.{'quantized' if grid else 'dequantized'}"
            output = self._converted[key] = self.activation(name, value.shape, kind, grid)
            operator = "QUANTIZE" if grid else "DEQUANTIZE"
            self.operator(operator, value.kind if kind == "float32" else kind, [value.index], output)
        return self._converted[key]

    def _call(self, operation, row, shape, args, kwargs):
        values = [each for each in keras.tree.flatten((args, kwargs)) if isinstance(each, _Value)]
        leaf = leaf_of(operation)
        if leaf.operator == "IDENTITY":
            return values[0]
        if leaf.grid == "moved":
            kind, grid, taken = values[0].kind, values[0].grid, values
        else:
            kind, grid = row.activations, row.output
            if leaf.operator == "CONSTANT":  # It takes only the size of the batch.
                return _learned_tokens(self, operation, row, shape)
            grids = row.inputs or [""] * len(values)
            taken = [self.converted(value, kind, each) for value, each in zip(values, grids, strict=True)]
            if leaf.operator == "LAYER":
                outputs = self.file.add_graph(_converted_layer(operation, args, kwargs), [each.index for each in taken])
                return _Value(outputs[0], "float32", "", shape)
            if leaf.operator in ("RELU", "RELU6") and kind != "float32" and taken[0].grid == grid:
                return taken[0]  # It is fused into the operator before it.
        at = _At(self, operation, operation.name, kind, taken, _ACTIVATIONS[self.plan.fused(operation.name)])
        output = self.activation(operation.name, shape, kind, grid)
        others = [each for each in keras.tree.flatten((args, kwargs)) if not isinstance(each, _Value)]
        _WRITERS[leaf.operator](at, leaf.operator, output, others)
        return output


@dataclasses.dataclass(frozen=True)
class _At:
    """An operation that is being written.

    Attributes:
        writer: What writes it.
        operation: The layer or operation.
        name: Its name.
        kind: "int8", "int16" or "float32".
        inputs: The tensors that it takes, on its grids.
        activation: The number of the ReLU that is fused into it.
    """

    writer: _Writer
    operation: keras.Operation
    name: str
    kind: str
    inputs: list[_Value]
    activation: int

    @property
    def indices(self):
        return [value.index for value in self.inputs]

    def numbers(self, what, values):
        return self.writer.numbers(f"{self.name}.{what}", values)

    def add(self, operator, inputs, output, options=None, **settings):
        self.writer.operator(operator, self.kind, inputs, output, options, **settings)

    def kernel_and_bias(self, kernel, axis):
        """Add a kernel with its output channels on an axis, and the bias, and return their numbers."""
        writer, channels = self.writer, kernel.shape[axis]
        bias = np.zeros(channels, np.float32)
        if self.operation.use_bias:
            bias = keras.ops.convert_to_numpy(self.operation.bias)
        if self.kind == "float32":
            return [
                writer.constant(f"{self.name}.kernel", kernel, "float32"),
                writer.constant(f"{self.name}.bias", bias, "float32"),
            ]
        others = tuple(i for i in range(kernel.ndim) if i != axis)
        steps = np.maximum(np.abs(kernel).max(axis=others), np.float32(1e-12)) / np.float32(127)
        input_step = np.float32(writer.grids[self.inputs[0].grid][0])
        # The bias is in steps of the product. Where it would not fit, the product is so small beside it that the kernel
        # may be coarser: that of a channel without weights, or behind an input that is always near zero.
        steps = np.maximum(steps, np.abs(bias) / (LARGEST_BIAS * input_step))
        index = writer.constant(f"{self.name}.kernel", kernel, "int8", steps, axis=axis)
        bias_steps = steps * input_step
        integers, dtype = (np.int32, "INT32") if self.kind == "int8" else (np.int64, "INT64")
        rounded = np.rint(bias.astype(np.float64) / bias_steps).astype(integers)
        zeros = np.zeros(channels, np.int64)
        name = f"{self.name}.bias"
        return [index, writer.file.tensor(name, (channels,), dtype, bias_steps, zeros, 0, rounded)]


def _converted_layer(layer, args, kwargs) -> bytes:
    """Return the float file of one layer, called on these tensors of another file."""
    values = [each for each in keras.tree.flatten((args, kwargs)) if isinstance(each, _Value)]

    def call(*tensors):
        rest = iter(tensors)
        taken, named = keras.tree.map_structure(
            lambda each: next(rest) if isinstance(each, _Value) else each, (args, kwargs)
        )
        return layer(*taken, **named)

    archive = keras.export.ExportArchive()
    archive.track(layer)
    signature = [tf.TensorSpec(value.shape, "float32", name=f"input_{i}") for i, value in enumerate(values)]
    archive.add_endpoint("serve", call, input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def _learned_tokens(writer, layer, row, shape):
    kind = row.activations if row.output else "float32"
    step = writer.grids[row.output] if row.output else ()
    tokens = keras.ops.convert_to_numpy(layer.tokens)[None]
    return _Value(writer.constant(layer.name, tokens, kind, *step), kind, row.output, shape)


def _dense(at, operator, output, others):
    kernel = keras.ops.convert_to_numpy(at.operation.kernel).T
    inputs = [*at.indices, *at.kernel_and_bias(kernel, 0)]
    at.add(operator, inputs, output, "FullyConnectedOptions", keepNumDims=True, fusedActivationFunction=at.activation)


def _convolution(at, operator, output, others):
    layer, settings = at.operation, {}
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    if operator == "CONV_2D":
        weights, options = at.kernel_and_bias(kernel.transpose(3, 0, 1, 2), 0), "Conv2DOptions"
    else:
        settings["depthMultiplier"] = layer.depth_multiplier
        weights, options = at.kernel_and_bias(kernel.reshape(1, *kernel.shape[:2], -1), 3), "DepthwiseConv2DOptions"
    (stride_h, stride_w), (dilation_h, dilation_w) = layer.strides, layer.dilation_rate
    at.add(
        operator,
        [*at.indices, *weights],
        output,
        options,
        padding=_PADDING[layer.padding],
        strideH=stride_h,
        strideW=stride_w,
        dilationHFactor=dilation_h,
        dilationWFactor=dilation_w,
        fusedActivationFunction=at.activation,
        **settings,
    )


def _product(at, operator, output, others):
    at.add(operator, at.indices, output, "BatchMatMulOptions", adjY=at.operation.transpose_b)


def _arithmetic(at, operator, output, others):
    inputs = at.indices
    if isinstance(at.operation, (AddConstant, MultiplyConstant)):
        values = keras.ops.convert_to_numpy(at.operation.constant)
        step = ()
        if at.kind != "float32":
            bits = BITS[at.kind]
            low, high = min(float(values.min()), 0.0), float(values.max())
            high = max(high, 0.0 if low < 0 else 1e-12)
            step = Grid(bits, symmetric=bits == 16).step_and_zero(low, high)
        inputs = [*inputs, at.writer.constant(f"{at.name}.constant", values, at.kind, *step)]
    _add_arithmetic(at, operator, inputs, output, at.activation)


def _add_arithmetic(at, operator, inputs, output, activation):
    exact = {"potScaleInt16": False} if operator != "MUL" else {}
    options = f"{operator.capitalize()}Options"
    at.add(operator, inputs, output, options, fusedActivationFunction=activation, **exact)


def _relu(at, operator, output, others):
    """A ReLU that is not fused: XNNPACK has none in int8, but adds 0 and clamps."""
    if at.kind == "float32":
        at.add(operator, at.indices, output)
        return
    zero = at.writer.constant(f"{at.name}.zero", np.zeros(1), at.kind, at.writer.grids[output.grid][0])
    _add_arithmetic(at, "ADD", [*at.indices, zero], output, _ACTIVATIONS[operator])


def _reduction(at, operator, output, others):
    inputs = [*at.indices, at.numbers("axes", at.operation.axis)]
    at.add(operator, inputs, output, "ReducerOptions", keepDims=at.operation.keepdims)


def _table(options=None, **names):
    """Return the writer of an operator of one tensor.

    Args:
        options: The name of its settings in the schema.
        **names: For each setting, the operation's attribute.
    """

    def write(at, operator, output, others):
        settings = {key: getattr(at.operation, name) for key, name in names.items()}
        at.add(operator, at.indices, output, options, **settings)

    return write


def _softmax(at, operator, output, others):
    at.add(operator, at.indices, output, "SoftmaxOptions", beta=1.0)


def _concatenation(at, operator, output, others):
    at.add(operator, at.indices, output, "ConcatenationOptions", axis=at.operation.axis % len(output.shape))


def _reshape(at, operator, output, others):
    at.add(operator, [*at.indices, at.numbers("shape", output.shape)], output, "ReshapeOptions")


def _transpose(at, operator, output, others):
    operation, rank = at.operation, len(output.shape)
    if isinstance(operation, keras.layers.Permute):
        axes = (0, *operation.dims)
    else:
        axes = tuple(axis % rank for axis in operation.axes or range(rank - 1, -1, -1))
    at.add(operator, [*at.indices, at.numbers("axes", axes)], output, "TransposeOptions")


def _slice(at, operator, output, key):
    """A slice that keeps all axes, and then a reshape: one that drops an axis splits the graph on a device."""
    (given,) = at.inputs
    missing = len(given.shape) - sum(part is not None and part is not Ellipsis for part in key)
    if Ellipsis not in key:
        key = [*key, Ellipsis]
    where = key.index(Ellipsis)
    key = [*key[:where], *[slice(None)] * missing, *key[where + 1 :]]
    parts = [part if isinstance(part, slice) else slice(part, part + 1 or None) for part in key if part is not None]
    spans = [part.indices(size) for part, size in zip(parts, given.shape, strict=True)]
    sizes = [len(range(*span)) for span in spans]
    corners = [at.numbers(what, [span[i] for span in spans]) for i, what in enumerate(("begin", "end", "strides"))]
    is_sliced = tuple(sizes) == output.shape
    sliced = output if is_sliced else at.writer.activation(f"{at.name}.slice", sizes, given.kind, given.grid)
    at.add(operator, [*at.indices, *corners], sliced, "StridedSliceOptions")
    if not is_sliced:
        at.add("RESHAPE", [sliced.index, at.numbers("shape", output.shape)], output, "ReshapeOptions")


def _pad(at, operator, output, others):
    widths = at.operation.pad_width
    widths = widths * len(output.shape) if len(widths) == 1 else widths
    at.add(operator, [*at.indices, at.numbers("widths", widths)], output, "PadOptions")


def _resize(at, operator, output, others):
    inputs = [*at.indices, at.numbers("size", output.shape[1:3])]
    at.add(operator, inputs, output, "ResizeBilinearOptions", halfPixelCenters=True)


def _pool(at, operator, output, others):
    operation = at.operation
    sizes, strides = (
        (each, each) if isinstance(each, int) else tuple(each)
        for each in (operation.pool_size, operation.strides or operation.pool_size)
    )
    at.add(
        operator,
        at.indices,
        output,
        "Pool2DOptions",
        padding=_PADDING[operation.padding],
        strideH=strides[0],
        strideW=strides[1],
        filterHeight=sizes[0],
        filterWidth=sizes[1],
    )


_WRITERS: dict[str, Callable] = {
    "FULLY_CONNECTED": _dense,
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D"), _convolution),
    "BATCH_MATMUL": _product,
    **dict.fromkeys(("ADD", "SUB", "MUL"), _arithmetic),
    **dict.fromkeys(("RELU", "RELU6"), _relu),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX"), _reduction),
    **dict.fromkeys(("RSQRT", "LOGISTIC", "TANH"), _table()),
    "EXP": _table("ExpOptions"),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), _table("MaximumMinimumOptions")),
    "GELU": _table("GeluOptions", approximate="approximate"),
    "SOFTMAX": _softmax,
    "CONCATENATION": _concatenation,
    "RESHAPE": _reshape,
    "TRANSPOSE": _transpose,
    "STRIDED_SLICE": _slice,
    "PAD": _pad,
    "RESIZE_BILINEAR": _resize,
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), _pool),
}
