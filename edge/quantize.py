"""Quantization-aware training: a float model becomes one that trains with int8's rounding."""

import keras
import tensorflow as tf
from keras import ops

from keras_vit.edge.fake_quant import (
    FakeQuant,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    on_grid,
)
from keras_vit.edge.images import image_batches
from keras_vit.fusion import fuse
from keras_vit.graph import inputs_of, producer, rebuild
from keras_vit.layers import MatMul, TokenPooling

# hybrid_int8: products of matrices in int8, everything between them in float. These are the layers with products, and
# what stands in for each; a MatMul has no weights to round.
_QUANTIZED = {
    keras.layers.Dense: QuantizedDense,
    keras.layers.Conv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    MatMul: MatMul,
}
SCHEMES = ("hybrid_int8",)

# Layers and operations that only move numbers: what they give is on the int8 grid if what they take is.
_LAYOUT_LAYERS = (keras.layers.Reshape, keras.layers.Permute, keras.layers.Flatten, TokenPooling)
_LAYOUT_OPERATIONS = ("Reshape", "Transpose", "Swapaxes", "Squeeze", "ExpandDims", "GetItem")

# TFLite fuses these into the product before them; any other activation computes in float after it.
_FUSED_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def quantize_aware(
    model: keras.Model, *, scheme: str = "hybrid_int8", calibration_data, batch_size: int = 16
) -> keras.Model:
    """A copy of a model that computes with int8's rounding and can be trained on: compile, fit, save, export.

    The model is folded first (`keras_vit.fuse`). Then every dense layer, convolution and product of activations gets
    its kernel on the int8 grid, per output channel, and its inputs and output through a `FakeQuant`. All ranges are
    symmetric. Without further training this is post-training quantization.

    Args:
        model: A functional model, usually trained in float; it is left as it was.
        scheme: "hybrid_int8": products in int8; normalization, softmax and activations in float.
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
    flat = fuse(model)
    limits = calibrate(flat, calibration_data, batch_size)

    quantized = _with_ranges(flat, lambda name, tensor: FakeQuant(name=f"{name}.fake_quant")(tensor), _QUANTIZED)
    for name, limit in limits.items():
        quantized.get_layer(f"{name}.fake_quant").limit = limit
    return quantized


def is_quantized(model: keras.Model) -> bool:
    """Whether `quantize_aware` made this model."""
    return any(isinstance(layer, FakeQuant) for layer in model.layers)


def calibrate(flat: keras.Model, data, batch_size: int = 16) -> dict[str, float]:
    """The largest magnitude over the data of every tensor that is to be quantized, by the layer that gives it."""
    seen = {}

    def observe(name, tensor):
        seen[name] = ops.max(ops.abs(tensor))
        return tensor

    observed = _with_ranges(flat, observe, {})
    observer = keras.Model(observed.inputs, seen)
    largest = tf.function(lambda batch: observer(batch, training=False), reduce_retracing=True)
    limits = dict.fromkeys(seen, 0.0)
    for batch, _ in image_batches(data, flat.input_shape[1:], batch_size):
        for name, value in largest(batch).items():
            limits[name] = max(limits[name], float(value))
    # A tensor that is zero throughout still needs a grid.
    return {name: limit or 1.0 for name, limit in limits.items()}


def product_ranges(quantized: keras.Model) -> dict[str, tuple[list[float], float]]:
    """For each product of a quantized model, by name: the limits of its inputs and the limit of its output."""
    outputs = {}
    for layer in quantized.layers:
        if isinstance(layer, FakeQuant):
            outputs[producer(inputs_of(layer)[0]).name] = layer.limit
    return {
        layer.name: ([_grid_of(tensor).limit for tensor in inputs_of(layer)], outputs[layer.name])
        for layer in quantized.layers
        if isinstance(layer, tuple(_QUANTIZED.values()))
    }


def without_ranges(quantized: keras.Model, kernels_on_grid: bool) -> keras.Model:
    """The float model inside a quantized one, its kernels rounded to the int8 grid or as they were trained."""
    plain = {quantized: float_ for float_, quantized in _QUANTIZED.items()}

    def make(layer):
        return plain.get(type(layer), type(layer)).from_config(layer.get_config())

    def call(layer, *args, **kwargs):
        return args[0] if isinstance(layer, FakeQuant) else layer(*args, **kwargs)

    floats = rebuild(quantized, make, call)
    if kernels_on_grid:
        for layer in floats.layers:
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                kernel = ops.reshape(layer.kernel, (*layer.kernel_size, -1))
                layer.kernel.assign(ops.reshape(on_grid(kernel), layer.kernel.shape))
            elif hasattr(layer, "kernel"):
                layer.kernel.assign(on_grid(layer.kernel))
    return floats


def _with_ranges(flat, mark, stand_ins):
    """Rebuilds a flat model with `mark(name, tensor)` on each tensor that goes into or comes out of a product.

    An activation inside a product's layer that TFLite computes in float is put behind it. `stand_ins` gives the class
    that takes a layer's place, by its type.
    """
    marked = {}  # By id of a tensor: the tensor on the grid.
    activations = {layer.name: layer.activation for layer in flat.layers if not _fused_activation(layer)}

    def make(layer):
        config = layer.get_config()
        if layer.name in activations:
            config["activation"] = "linear"
        return stand_ins.get(type(layer), type(layer)).from_config(config)

    def marked_once(tensor):
        if id(tensor) not in marked:
            if _on_grid(tensor, marked):
                return tensor
            result = mark(producer(tensor).name, tensor)
            marked[id(tensor)] = marked[id(result)] = result
        return marked[id(tensor)]

    def call(layer, *args, **kwargs):
        if not isinstance(layer, tuple(_QUANTIZED)):
            return layer(*args, **kwargs)
        output = marked_once(layer(*map(marked_once, args), **kwargs))
        if layer.name in activations:
            output = keras.layers.Activation(activations[layer.name], name=f"{layer.name}.activation")(output)
        return output

    return rebuild(flat, make, call)


def _fused_activation(layer):
    return not isinstance(layer, tuple(_QUANTIZED)) or getattr(layer, "activation", keras.activations.linear) in (
        _FUSED_ACTIVATIONS
    )


def _on_grid(tensor, marked):
    while id(tensor) not in marked:
        operation = producer(tensor)
        if not _is_layout(operation):
            return False
        tensor = inputs_of(operation)[0]
    return marked[id(tensor)] is tensor


def _is_layout(operation):
    return isinstance(operation, _LAYOUT_LAYERS) or type(operation).__name__ in _LAYOUT_OPERATIONS


def _grid_of(tensor):
    """The FakeQuant whose grid a tensor of a quantized model is on."""
    while not isinstance(producer(tensor), FakeQuant):
        tensor = inputs_of(producer(tensor))[0]
    return producer(tensor)
