"""Writing a flat model as a SavedModel in the form that TensorFlow Lite's converter turns into the best file."""

import gc
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_vit.edge.conversion.kernel_placeholders import LAYOUT, KernelPlaceholders
from keras_vit.edge.inputs import model_inputs, packed
from keras_vit.edge.quantization.plan import LARGEST_BIAS, Row
from keras_vit.graph.factors import only_records_facts, scale_and_shift
from keras_vit.graph.flat_graph import Graph, Node
from keras_vit.graph.fusion import FEW_CHANNELS, MAX_TAPS
from keras_vit.layers import FloatMatMul, LearnedTokens, MatMul

_PRODUCTS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def prepared(graph: Graph, keep_inputs: bool, placeholders: KernelPlaceholders | None = None) -> keras.Model:
    """Return a fused model in the form that is converted.

    Args:
        graph: The graph of the model, which is changed.
        keep_inputs: Whether every product keeps the input that its layer has. Otherwise the converter may fold what is
            multiplied and added before it into its weights.
        placeholders: What takes the large kernels out of the model; None to leave them in it.
    """
    constant = _constant(graph)
    for node in graph.nodes:
        if node.kind is keras.layers.Conv2D and node.config.get("groups", 1) > 1:
            node.kind = _GroupedConv2D
        elif node.is_a(MatMul, FloatMatMul) and all(call.inputs[0].node.name in constant for call in node.calls):
            node.kind = _ConstantOnTheRight
        elif keep_inputs:
            _repeat_number(node)
    if placeholders is not None:
        placeholders.put(graph)
    return graph.build()


def use_dense_kernels(graph: Graph, rows: Mapping[str, Row]) -> None:
    """Make dense convolutions of the int8 depthwise convolutions with a large kernel and few channels.

    Their kernels are zero off the diagonal, so they compute the same, with the same range for each output channel. The
    CPU delegate has no fast kernel for more than 25 taps, and is five times faster this way (7 x 7, 16 channels).
    """

    def is_slow(node):
        if not node.is_a(keras.layers.DepthwiseConv2D) or rows[node.name].activations != "int8":
            return False
        height, width, channels, multiplier = node.weights["kernel"].shape
        return height * width > MAX_TAPS and channels <= FEW_CHANNELS and multiplier == 1

    kept = ("strides", "padding", "dilation_rate", "use_bias", "activation", "kernel_size", "trainable", "dtype")
    for node in filter(is_slow, graph.nodes):
        kernel = node.weights["kernel"]
        channels = kernel.shape[2]
        node.kind = keras.layers.Conv2D
        node.config = {"filters": channels, **{name: node.config[name] for name in kept}}
        node.weights["kernel"] = kernel * np.eye(channels, dtype="float32")


def fit_biases(graph: Graph, rows: Mapping[str, Row], ranges: Mapping[str, tuple[float, float]]) -> None:
    """Make the largest weight of each channel so large that the bias fits into int32.

    A bias is stored in steps of the product, which are tiny for a channel without weights, and behind an input that is
    always near zero. What the larger weight adds is less than 4e-5 of the bias.
    """
    for node in graph.nodes:
        row = rows.get(node.name)
        if row is None or row.kernel_bits is None or row.activations != "int8" or "bias" not in node.weights:
            continue
        low, high = ranges[row.inputs[0]]
        bias = np.abs(node.weights["bias"])
        least = 127 * bias / (LARGEST_BIAS * np.float32((high - low) / 255))
        kernel = np.asarray(node.weights["kernel"])
        by_channel = kernel.reshape(-1, len(bias))
        largest = np.abs(by_channel).argmax(axis=0)
        channels = np.flatnonzero(np.abs(by_channel).max(axis=0) < least)
        if len(channels):
            by_channel = by_channel.copy()
            by_channel[largest[channels], channels] = least[channels]
            node.weights["kernel"] = by_channel.reshape(kernel.shape)


def save(model: keras.Model, folder: str, batch_size: int = 1) -> None:
    """Write a SavedModel that takes a fixed number of images, or samples of each input.

    Args:
        model: A model returned by `prepared`.
        folder: The folder to write to.
        batch_size: The number of images.
    """
    gc.collect()  # Graphs contain reference cycles, and hold copies of weights.
    archive = keras.export.ExportArchive()  # It lets the converter freeze variables; a function does not.
    archive.track(model)
    is_single = len(model.inputs) == 1
    names = ["image"] if is_single else [name for name, _ in model_inputs(model)]
    serve = _function_of_one_input(model) if is_single else _function_of_several_inputs(model)
    signature = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in zip(names, model.inputs, strict=True)
    ]
    archive.add_endpoint("serve", serve, input_signature=signature)
    archive.write_out(folder, verbose=False)


def _function_of_one_input(flat) -> Callable:
    def serve(image):
        return flat(packed(flat, [image]), training=False)

    return serve


def _function_of_several_inputs(flat) -> Callable:
    def serve(*values):
        return flat(packed(flat, values), training=False)

    return serve


class _GroupedConv2D(keras.layers.Conv2D):
    """A grouped convolution. Keras would compute it inside a compiled function, where the layer's name is lost."""

    def convolution_op(self, inputs, kernel):
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


class _ConstantOnTheRight(FloatMatMul):
    """A product of a constant and a tensor. LiteRT's GPU accelerator takes the constant only on the right."""

    def call(self, a, b):
        transposed_b = b if self.transpose_b else ops.swapaxes(b, -1, -2)
        return ops.swapaxes(ops.matmul(transposed_b, ops.swapaxes(a, -1, -2)), -1, -2)


def _constant(graph: Graph) -> set[str]:
    """Return the names of the nodes that are made of learned tokens only, and so give the same for every image."""
    constant: set[str] = set()
    for node in graph.nodes:  # Each comes after those that it takes from.
        before = {tensor.node.name for tensor in node.inputs}
        if node.is_a(LearnedTokens) or (before and before <= constant):
            constant.add(node.name)
    return constant


class _RepeatedNumber(keras.layers.Layer):
    """Multiply by one number and add another, each written as several numbers.

    The converter folds a single number into the product behind it, but not several. Behind a ReLU, it folds several
    equal numbers too. So the last one is the next number that a float can be.
    """

    def __init__(self, scale: float, shift: float, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.shift = shift

    def call(self, inputs):
        rank = len(inputs.shape)
        # The converter folds a sum with a number for each channel into a dense layer too, so the last axis comes last.
        axes = [*reversed(range(1, rank - 1)), rank - 1]
        axis = next((axis for axis in axes if inputs.shape[axis] > 1), rank - 1)
        shape = (inputs.shape[axis], *[1] * (rank - 1 - axis))
        outputs = ops.cast(inputs, self.compute_dtype)
        if self.scale != 1:
            outputs = outputs * tf.constant(_repeated(self.scale, shape))
        if self.shift != 0:
            outputs = outputs + tf.constant(_repeated(self.shift, shape))
        return outputs

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "shift": self.shift}


def _repeated(number: float, shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.full(shape, number, "float32")
    numbers[-1] = np.nextafter(numbers[-1], np.float32(np.inf))
    return numbers


def _repeat_number(node: Node) -> None:
    """Repeat the numbers of a node that multiplies by one number or adds one, if the converter would fold them."""
    found = scale_and_shift(node)
    if found is not None and not any(values.ndim for values in found) and _reaches_a_product(node):
        scale, shift = map(float, found)
        node.become(_RepeatedNumber, {"scale": scale, "shift": shift, "dtype": "float32"}, {})


def _reaches_a_product(node: Node) -> bool:
    """Whether only layers that move numbers, or that multiply or add constants, lie between a node and a product."""

    def passes(user: Node) -> bool:
        return user.is_a(*LAYOUT, _RepeatedNumber) or only_records_facts(user) or scale_and_shift(user) is not None

    return any(
        user is not None and (user.is_a(*_PRODUCTS) or (passes(user) and _reaches_a_product(user)))
        for user in node.users
    )
