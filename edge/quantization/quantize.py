"""Quantization-aware training: turn a float model into one that trains with int8's rounding."""

import functools
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_vit.edge.images import image_batches
from keras_vit.edge.quantization.fake_quant import (
    FakeQuant,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    SigmoidGrid,
    on_grid,
)
from keras_vit.edge.quantization.operations import Int8Operation
from keras_vit.edge.quantization.plan import PRODUCTS, Plan, is_clamp, is_layout, operator_of
from keras_vit.graph.fusion import fuse
from keras_vit.graph.reading import consumers, inputs_of, producer
from keras_vit.graph.rebuilding import rebuild
from keras_vit.layers import MatMul
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings

# The layer that replaces each layer with products; a MatMul has no weights to round.
_QUANTIZED = {
    keras.layers.Dense: QuantizedDense,
    keras.layers.Conv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    MatMul: MatMul,
}
_GRIDS = (FakeQuant, SigmoidGrid)
SCHEMES = ("hybrid_int8",)

# TensorFlow Lite fuses these into the product before them; any other activation computes in float after it.
_FUSED_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def quantize_aware(
    model: keras.Model, *, scheme: str = "hybrid_int8", calibration_data: Any, batch_size: int = 16
) -> keras.Model:
    """Return a copy of a model that computes with int8's rounding and can be compiled, trained, saved, and exported.

    The model is fused first (`keras_vit.fuse`). Then the kernel of every dense layer and convolution is rounded to the
    int8 grid of its output channel, and the inputs and output of every product go through a `FakeQuant`. So do those of
    additions, multiplications, SiLU, concatenations, and means whose neighbors are all int8, as between convolutions
    (`keras_vit.edge.quantization.plan`). All ranges are symmetric, except that of a sigmoid's output. Without further
    training, this is post-training quantization.

    Args:
        model: A functional model, usually trained in float. It is not changed.
        scheme: The only scheme is "hybrid_int8": products and what lies between them compute in int8; normalization,
            softmax, and GELU compute in float.
        calibration_data: Images that set the initial ranges: a NumPy array (n, height, width, channels) of images as
            the model takes them, such as from `keras_vit.preprocess_input`, or a tf.data dataset of image batches.
            Datasets of `keras_vit.training` are normalized for the model. A few hundred images are enough.
        batch_size: Images per calibration step.

    Returns:
        A flat functional model, as `keras_vit.flatten` returns it.

    Raises:
        ValueError: The scheme is unknown, the model is quantized already, or the images are not of the model's input
            shape, not finite, in another range than the model takes, or none at all.
        TypeError: The images are neither an array nor a dataset of numbers.
        ImportError: tensorflow-model-optimization is not installed. The message gives the pip command.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {SCHEMES}; received {scheme!r}.")
    if is_quantized(model):
        raise ValueError(f"The model {model.name!r} is quantized already; pass the float model that it was made from.")
    flat = _with_separate_activations(fuse(model))
    limits = calibrate(flat, calibration_data, batch_size, model)

    def mark(name, tensors):
        layer = FakeQuant(name=f"{name}.fake_quant")
        return [layer(tensor) for tensor in tensors]

    quantized = _with_ranges(flat, mark, _QUANTIZED)
    for name, limit in limits.items():
        quantized.get_layer(f"{name}.fake_quant").limit = limit
    return quantized


def is_quantized(model: keras.Model) -> bool:
    """Return whether `quantize_aware` made this model."""
    return any(isinstance(layer, FakeQuant) for layer in model.layers)


def calibrate(flat: keras.Model, data, batch_size: int, model: keras.Model) -> dict[str, float]:
    """Return the largest magnitude of every tensor that is to be quantized, by the name of the layer that gives it.

    Args:
        flat: The model whose tensors are measured, made from `model`.
        data: Images as `quantize_aware` takes them.
        batch_size: Images per calibration step.
        model: The model that says how it takes images.
    """
    largest = {}

    def observe(name, tensors):
        largest[name] = functools.reduce(ops.maximum, [ops.max(ops.abs(tensor)) for tensor in tensors])
        return tensors

    observed = _with_ranges(flat, observe, {})
    observer = keras.Model(observed.inputs, largest)
    limits = dict.fromkeys(largest, 0.0)
    with native_logs(), no_retracing_warnings():
        observe_batch = tf.function(lambda batch: observer(batch, training=False), reduce_retracing=True)
        for batch, _ in image_batches(data, flat.input_shape[1:], batch_size, model):
            for name, value in observe_batch(batch).items():
                limits[name] = max(limits[name], float(value))
    # A tensor that is always zero needs a grid too.
    return {name: limit or 1.0 for name, limit in limits.items()}


def int8_operations(quantized: keras.Model) -> dict[str, Int8Operation | None]:
    """Return what each layer of a quantized model computes in int8, by name; None if it computes in float."""
    uses = consumers(quantized)
    operations = dict.fromkeys(layer.name for layer in quantized.layers)
    for layer in quantized.layers:
        operator, users, inputs = operator_of(layer), uses[layer.name], list(map(_grid_of, inputs_of(layer)))
        if operator is None or None in inputs:
            continue
        if isinstance(layer, keras.layers.Concatenate):
            output = inputs[0]
        else:
            if len(users) == 1 and is_clamp(users[0]):
                users = uses[users[0].name]
            output = users[0] if len(users) == 1 else None
        if isinstance(output, _GRIDS):
            operations[layer.name] = Int8Operation(operator, [grid.range for grid in inputs], output.range)
    return operations


def without_ranges(quantized: keras.Model, kernels_on_grid: bool) -> keras.Model:
    """Return the float model inside a quantized one.

    Args:
        quantized: A model returned by `quantize_aware`. It is not changed.
        kernels_on_grid: Whether to round the kernels to the int8 grid.
    """
    plain = {quantized: float_ for float_, quantized in _QUANTIZED.items()}

    def make(layer):
        return plain.get(type(layer), type(layer)).from_config(layer.get_config())

    def call(layer, *args, **kwargs):
        return args[0] if isinstance(layer, _GRIDS) else layer(*args, **kwargs)

    floats = rebuild(quantized, make, call)
    if kernels_on_grid:
        for layer in floats.layers:
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                kernel = ops.reshape(layer.kernel, (*layer.kernel_size, -1))
                layer.kernel.assign(ops.reshape(on_grid(kernel), layer.kernel.shape))
            elif hasattr(layer, "kernel"):
                layer.kernel.assign(on_grid(layer.kernel))
    return floats


def _with_separate_activations(flat):
    """Return the model with every activation that is not fused as a layer of its own, and SiLU as a product."""
    activations = {layer.name: layer.activation for layer in flat.layers if not _has_fused_activation(layer)}

    def make(layer):
        config = layer.get_config()
        if layer.name in activations:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.silu:
            gate = keras.layers.Activation("sigmoid", name=f"{layer.name}.sigmoid")(args[0])
            return keras.layers.Multiply(name=layer.name)([args[0], gate])
        output = layer(*args, **kwargs)
        if layer.name in activations:
            output = keras.layers.Activation(activations[layer.name], name=f"{layer.name}.activation")(output)
        return output

    return rebuild(flat, make, call)


def _has_fused_activation(layer):
    return not isinstance(layer, PRODUCTS) or getattr(layer, "activation", keras.activations.linear) in (
        _FUSED_ACTIVATIONS
    )


def _with_ranges(flat, mark, replacements):
    """Return a copy of a flat model in which every input and output of an int8 operation is on a grid.

    Args:
        flat: A model returned by `_with_separate_activations`.
        mark: From (name, tensors) to these tensors on one grid.
        replacements: The class that replaces a layer, by the layer's class.
    """
    plan = Plan(flat)
    marked = {}  # The tensor on the grid, by id of a tensor.

    def make(layer):
        return replacements.get(type(layer), type(layer)).from_config(layer.get_config())

    def put_on_grid(tensor):
        if id(tensor) not in marked:
            if _is_moved(tensor, marked):
                return tensor
            name = producer(tensor).name
            marked[id(tensor)] = (
                SigmoidGrid(name=f"{name}.grid")(tensor)
                if name in plan.int8 and operator_of(producer(tensor)) == "LOGISTIC"
                else mark(name, [tensor])[0]
            )
            marked[id(marked[id(tensor)])] = marked[id(tensor)]
        return marked[id(tensor)]

    def call(layer, *args, **kwargs):
        name = layer.name
        if name in plan.int8 and isinstance(layer, keras.layers.Concatenate):
            output = layer(mark(name, args[0]), **kwargs)
            marked[id(output)] = output
            return output
        if name in plan.int8 or name in plan.early:
            args = keras.tree.map_structure(put_on_grid, args)
        output = layer(*args, **kwargs)
        return put_on_grid(output) if plan.gives_grid(name) else output

    return rebuild(flat, make, call)


def _is_moved(tensor, marked):
    """Return whether only layout operations lie between a tensor and one that is on a grid."""
    while id(tensor) not in marked:
        operation = producer(tensor)
        if not is_layout(operation):
            return False
        tensor = inputs_of(operation)[0]
    return marked[id(tensor)] is tensor


def _grid_of(tensor):
    """Return the layer whose grid a tensor of a quantized model is on, or None."""
    operation = producer(tensor)
    while is_layout(operation) or isinstance(operation, keras.layers.Concatenate):
        operation = producer(inputs_of(operation)[0])
    return operation if isinstance(operation, _GRIDS) else None
