"""Quantization-aware training: a float model becomes one that trains with int8's rounding."""

import functools
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_vit.edge.conversion.int8_file import Int8Operation
from keras_vit.edge.images import image_batches
from keras_vit.edge.quantization.fake_quant import (
    FakeQuant,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    SigmoidGrid,
    on_grid,
)
from keras_vit.edge.quantization.plan import PRODUCTS, Plan, is_clamp, is_layout, operator_of
from keras_vit.graph.fusion import fuse
from keras_vit.graph.reading import consumers, inputs_of, producer
from keras_vit.graph.rebuilding import rebuild
from keras_vit.layers import MatMul

# What stands in for each layer with products; a MatMul has no weights to round.
_QUANTIZED = {
    keras.layers.Dense: QuantizedDense,
    keras.layers.Conv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    MatMul: MatMul,
}
_GRIDS = (FakeQuant, SigmoidGrid)
SCHEMES = ("hybrid_int8",)

# TFLite fuses these into the product before them; any other activation computes in float after it.
_FUSED_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def quantize_aware(
    model: keras.Model, *, scheme: str = "hybrid_int8", calibration_data: Any, batch_size: int = 16
) -> keras.Model:
    """A copy of a model that computes with int8's rounding and can be trained on: compile, fit, save, export.

    The model is folded first (`keras_vit.fuse`). Then every dense layer, convolution and product of activations gets
    its kernel on the int8 grid, per output channel, and its inputs and output through a `FakeQuant`. So do additions,
    gates, SiLU, concatenations and means whose neighbours are all int8, as between convolutions
    (`keras_vit.edge.quantization.plan`). All ranges are symmetric. Without further training this is post-training
    quantization.

    Args:
        model: A functional model, usually trained in float; it is left as it was.
        scheme: "hybrid_int8": products and what lies between them in int8; normalization, softmax, GELU in float.
        calibration_data: Images as a NumPy array (n, height, width, channels) or a tf.data dataset of image batches,
            preprocessed as in training; a few hundred are enough. They set where the ranges start.
        batch_size: Images per calibration step.

    Returns:
        A flat functional model, see `keras_vit.flatten`.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme is one of {SCHEMES}; received {scheme!r}.")
    if is_quantized(model):
        raise ValueError(f"The model {model.name!r} is quantized already; give the float model it was made from.")
    flat = _spelled_out(fuse(model))
    limits = calibrate(flat, calibration_data, batch_size)

    def mark(name, tensors):
        layer = FakeQuant(name=f"{name}.fake_quant")
        return [layer(tensor) for tensor in tensors]

    quantized = _with_ranges(flat, mark, _QUANTIZED)
    for name, limit in limits.items():
        quantized.get_layer(f"{name}.fake_quant").limit = limit
    return quantized


def is_quantized(model: keras.Model) -> bool:
    """Whether `quantize_aware` made this model."""
    return any(isinstance(layer, FakeQuant) for layer in model.layers)


def calibrate(flat: keras.Model, data, batch_size: int = 16) -> dict[str, float]:
    """The largest magnitude over the data of every tensor that is to be quantized, by the layer that gives it."""
    seen = {}

    def observe(name, tensors):
        seen[name] = functools.reduce(ops.maximum, [ops.max(ops.abs(tensor)) for tensor in tensors])
        return tensors

    observed = _with_ranges(flat, observe, {})
    observer = keras.Model(observed.inputs, seen)
    largest = tf.function(lambda batch: observer(batch, training=False), reduce_retracing=True)
    limits = dict.fromkeys(seen, 0.0)
    for batch, _ in image_batches(data, flat.input_shape[1:], batch_size):
        for name, value in largest(batch).items():
            limits[name] = max(limits[name], float(value))
    # A tensor that is zero throughout still needs a grid.
    return {name: limit or 1.0 for name, limit in limits.items()}


def int8_operations(quantized: keras.Model) -> dict[str, Int8Operation | None]:
    """What each layer of a quantized model computes in int8, by name; None for one that computes in float."""
    uses = consumers(quantized)
    found = dict.fromkeys(layer.name for layer in quantized.layers)
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
            found[layer.name] = Int8Operation(operator, [grid.range for grid in inputs], output.range)
    return found


def without_ranges(quantized: keras.Model, kernels_on_grid: bool) -> keras.Model:
    """The float model inside a quantized one, its kernels rounded to the int8 grid or as they were trained."""
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


def _spelled_out(flat):
    """The model with every activation that is not fused as a layer of its own, and SiLU as the two operations it is."""
    activations = {layer.name: layer.activation for layer in flat.layers if not _fused_activation(layer)}

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


def _with_ranges(flat, mark, stand_ins):
    """Rebuilds a flat model with every tensor that goes into or comes out of an int8 operation on a grid.

    Args:
        flat: What `_spelled_out` gave.
        mark: (name, tensors) -> the tensors on one grid.
        stand_ins: The class that takes a layer's place, by its type.
    """
    plan = Plan(flat)
    marked = {}  # By id of a tensor: the tensor on the grid.

    def make(layer):
        return stand_ins.get(type(layer), type(layer)).from_config(layer.get_config())

    def on_grid(tensor):
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
            args = keras.tree.map_structure(on_grid, args)
        output = layer(*args, **kwargs)
        return on_grid(output) if plan.gives_grid(name) else output

    return rebuild(flat, make, call)


def _fused_activation(layer):
    return not isinstance(layer, PRODUCTS) or getattr(layer, "activation", keras.activations.linear) in (
        _FUSED_ACTIVATIONS
    )


def _is_moved(tensor, marked):
    """Whether layout operations made a tensor of one that is on a grid."""
    while id(tensor) not in marked:
        operation = producer(tensor)
        if not is_layout(operation):
            return False
        tensor = inputs_of(operation)[0]
    return marked[id(tensor)] is tensor


def _grid_of(tensor):
    """The grid that a tensor of a quantized model is on, or None."""
    operation = producer(tensor)
    while is_layout(operation) or isinstance(operation, keras.layers.Concatenate):
        operation = producer(inputs_of(operation)[0])
    return operation if isinstance(operation, _GRIDS) else None
