"""Writers of Keras' own layers and operations."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_vit.edge.onnx.operations import Weights
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.graph.reading import TRANSPOSE, class_of
from keras_vit.layers.activations import GELU, AttentionSoftmax, gelu_tanh

layers = keras.layers


def array(variable) -> np.ndarray:
    """Return a variable as a float32 array."""
    return np.asarray(ops.convert_to_numpy(variable), np.float32)


def weights_of(layer, kernel=None) -> Weights:
    """Return the weights of a dense layer or convolution, with another kernel if one is given."""
    kernel = array(layer.kernel) if kernel is None else kernel
    return Weights(kernel, array(layer.bias) if layer.use_bias else None)


def depthwise_kernel(layer) -> np.ndarray:
    """Return the kernel of a depthwise convolution as one with a group for each input channel."""
    height, width, channels, multiplier = layer.kernel.shape
    return array(layer.kernel).reshape(height, width, 1, channels * multiplier)


_ACTIVATIONS = {
    "linear": lambda build, x: x,
    "relu": lambda build, x: build.op("Relu", x),
    "relu6": lambda build, x: build.op("Clip", x, 0.0, 6.0),
    "sigmoid": lambda build, x: build.op("Sigmoid", x),
    "silu": lambda build, x: build.op("Mul", x, build.op("Sigmoid", x)),
    "hard_sigmoid": lambda build, x: build.op("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    "hard_silu": lambda build, x: build.op("HardSwish", x),
    "gelu": lambda build, x: build.gelu(x),
    "tanh": lambda build, x: build.op("Tanh", x),
    "elu": lambda build, x: build.op("Elu", x),
    "selu": lambda build, x: build.op("Selu", x),
    "softplus": lambda build, x: build.op("Softplus", x),
    "softsign": lambda build, x: build.op("Softsign", x),
    "exponential": lambda build, x: build.op("Exp", x),
    "softmax": lambda build, x: build.softmax(x),
}
_BY_FUNCTION = {getattr(keras.activations, name): write for name, write in _ACTIVATIONS.items()}
_BY_FUNCTION[gelu_tanh] = lambda build, x: build.gelu(x, approximate=True)


def activated(build, layer, x):
    """Return a tensor after the activation of a layer."""
    write = _BY_FUNCTION.get(layer.activation)
    if write is None:
        name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
        raise ValueError(
            f"There is no ONNX writer for the activation {name!r} of the layer {layer.name!r}; make it a layer class "
            "of its own, and register a writer with keras_vit.edge.register_onnx_writer."
        )
    return write(build, x)


def _channels_last(layer):
    if layer.data_format != "channels_last":
        raise ValueError(f"The layer {layer.name!r} has channels first; ONNX export takes models with channels last.")


@register_onnx_writer(layers.Dense)
def _dense(build, layer, x):
    return activated(build, layer, build.linear(x, weights_of(layer)))


@register_onnx_writer(layers.Conv2D)
def _convolution(build, layer, x):
    return convolution(build, layer, x, weights_of(layer), layer.groups)


@register_onnx_writer(layers.DepthwiseConv2D)
def _depthwise(build, layer, x):
    return convolution(build, layer, x, weights_of(layer, depthwise_kernel(layer)), x.shape[-1])


def convolution(build, layer, x, weights, groups):
    """Return the convolution that a layer computes with some weights."""
    _channels_last(layer)
    output = build.convolution(x, weights, layer.strides, layer.padding, layer.dilation_rate, groups)
    return activated(build, layer, output)


@register_onnx_writer(layers.BatchNormalization)
def _batch_norm(build, layer, x):
    scale = 1 / np.sqrt(array(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * array(layer.gamma)
    shift = (array(layer.beta) if layer.center else 0) - array(layer.moving_mean) * scale
    shape = [1] * len(x.shape)
    shape[layer.axis] = -1
    return build.op("Add", build.op("Mul", x, scale.reshape(shape)), shift.reshape(shape))


@register_onnx_writer(layers.LayerNormalization)
def _layer_norm(build, layer, x):
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if [axis % len(x.shape) for axis in axes] != [len(x.shape) - 1] or getattr(layer, "rms_scaling", False):
        raise ValueError(
            "The ONNX writer of LayerNormalization takes layers that normalize the last axis to mean 0; "
            f"{layer.name!r} does not."
        )
    scale = array(layer.gamma) if layer.scale else np.ones(x.shape[-1], np.float32)
    return build.layer_norm(x, scale, array(layer.beta) if layer.center else None, layer.epsilon)


@register_onnx_writer(layers.Activation, AttentionSoftmax)
def _activation(build, layer, x):
    return activated(build, layer, x)


@register_onnx_writer(GELU)
def _gelu(build, layer, x):
    return build.gelu(x)


@register_onnx_writer(layers.ReLU)
def _relu(build, layer, x):
    if layer.threshold:
        raise ValueError(f"The ONNX writer of ReLU takes no threshold; {layer.name!r} has {layer.threshold}.")
    x = build.op("LeakyRelu", x, alpha=layer.negative_slope) if layer.negative_slope else build.op("Relu", x)
    return x if layer.max_value is None else build.op("Min", x, float(layer.max_value))


@register_onnx_writer(layers.LeakyReLU)
def _leaky_relu(build, layer, x):
    return build.op("LeakyRelu", x, alpha=layer.negative_slope)


@register_onnx_writer(layers.Softmax)
def _softmax(build, layer, x):
    return build.softmax(x, layer.axis)


@register_onnx_writer(class_of(ops.softmax))
def _softmax_operation(build, operation, x):
    return build.softmax(x, operation.axis)


def _joining(op_type):
    def write(build, layer, tensors):
        output, *others = tensors
        for other in others:
            output = build.op(op_type, output, other)
        return output

    return write


for _class, _op_type in (
    (layers.Add, "Add"),
    (layers.Subtract, "Sub"),
    (layers.Multiply, "Mul"),
    (layers.Maximum, "Max"),
    (layers.Minimum, "Min"),
):
    register_onnx_writer(_class)(_joining(_op_type))


@register_onnx_writer(layers.Average)
def _average(build, layer, tensors):
    return build.op("Mul", _joining("Add")(build, layer, tensors), 1 / len(tensors))


def _applying(op_type):
    def write(build, operation, *tensors):
        return build.op(op_type, *tensors)

    return write


for _function, _op_type in (
    (lambda x: x + x, "Add"),
    (lambda x: x - x, "Sub"),
    (lambda x: x * x, "Mul"),
    (lambda x: x / x, "Div"),
    (lambda x: ops.maximum(x, x), "Max"),
    (lambda x: ops.minimum(x, x), "Min"),
    (ops.relu, "Relu"),
    (ops.sigmoid, "Sigmoid"),
    (ops.tanh, "Tanh"),
    (ops.exp, "Exp"),
    (ops.sqrt, "Sqrt"),
    (ops.erf, "Erf"),
    (ops.abs, "Abs"),
    (ops.negative, "Neg"),
):
    register_onnx_writer(class_of(_function))(_applying(_op_type))


@register_onnx_writer(class_of(lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2))))
def _matmul(build, operation, a, b):
    return build.matmul(a, b)


@register_onnx_writer(layers.Concatenate)
def _concatenate(build, layer, tensors):
    return build.concat(tensors, layer.axis)


@register_onnx_writer(class_of(lambda x: ops.concatenate([x, x])))
def _concatenate_operation(build, operation, tensors):
    return build.concat(tensors, operation.axis)


@register_onnx_writer(layers.Reshape)
def _reshape(build, layer, x):
    return build.reshape(x, (build.batch_size, *layer.target_shape))


@register_onnx_writer(layers.Flatten)
def _flatten(build, layer, x):
    return build.reshape(x, (build.batch_size, -1))


@register_onnx_writer(class_of(lambda x: ops.reshape(x, (2, 3))))
def _reshape_operation(build, operation, x):
    return build.reshape(x, operation.newshape)


@register_onnx_writer(class_of(lambda x: ops.squeeze(x, 0)))
def _squeeze(build, operation, x):
    axes = [operation.axis] if isinstance(operation.axis, int) else operation.axis
    chosen = (
        [axis % len(x.shape) for axis in axes] if axes else [a for a, size in enumerate(x.shape) if size == 1 and a]
    )
    return build.reshape(x, [size for axis, size in enumerate(x.shape) if axis not in chosen])


@register_onnx_writer(class_of(lambda x: ops.expand_dims(x, 0)))
def _expand_dims(build, operation, x):
    axes = [operation.axis] if isinstance(operation.axis, int) else list(operation.axis)
    rank, shape = len(x.shape) + len(axes), iter(x.shape)
    added = {axis % rank for axis in axes}
    return build.reshape(x, [1 if axis in added else next(shape) for axis in range(rank)])


@register_onnx_writer(TRANSPOSE)
def _transpose(build, operation, x):
    return build.transpose(x, operation.axes or range(len(x.shape))[::-1])


@register_onnx_writer(layers.Permute)
def _permute(build, layer, x):
    return build.transpose(x, (0, *layer.dims))


@register_onnx_writer(class_of(lambda x: ops.swapaxes(x, 1, 2)))
def _swapaxes(build, operation, x):
    axes = list(range(len(x.shape)))
    first, second = operation.axis1, operation.axis2
    axes[first], axes[second] = axes[second], axes[first]
    return build.transpose(x, axes)


@register_onnx_writer(class_of(lambda x: x[:, :1]))
def _get_item(build, operation, x, key):
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        missing = len(x.shape) - sum(each is not None for each in keys) + 1
        keys[at : at + 1] = [slice(None)] * missing
    shape, axis = [], 0
    for each in keys:
        if each is None:
            shape.append(1)
            continue
        if isinstance(each, int):
            each %= x.shape[axis]
            x = build.slice(x, axis, each, each + 1)
        elif isinstance(each, slice) and (each.step or 1) > 0:
            x = build.slice(x, axis, each.start, each.stop, each.step or 1)
            shape.append(x.shape[axis])
        else:
            raise ValueError(
                f"ONNX export takes integers and slices with a positive step as indices; received {each!r}."
            )
        axis += 1
    return build.reshape(x, [*shape, *x.shape[axis:]])


@register_onnx_writer(layers.ZeroPadding2D)
def _zero_padding(build, layer, x):
    _channels_last(layer)
    return build.pad(x, ((0, 0), *layer.padding, (0, 0)))


def _cropping(build, layer, x, croppings):
    for axis, (before, after) in enumerate(croppings, start=1):
        x = build.slice(x, axis, before, x.shape[axis] - after)
    return x


@register_onnx_writer(layers.Cropping1D)
def _cropping_1d(build, layer, x):
    return _cropping(build, layer, x, [layer.cropping])


@register_onnx_writer(layers.Cropping2D)
def _cropping_2d(build, layer, x):
    _channels_last(layer)
    return _cropping(build, layer, x, layer.cropping)


def _global_pooling(op_type, axes):
    def write(build, layer, x):
        _channels_last(layer)
        return build.reduce(op_type, x, axes, layer.keepdims)

    return write


for _class, _op_type, _axes in (
    (layers.GlobalAveragePooling1D, "ReduceMean", (1,)),
    (layers.GlobalAveragePooling2D, "ReduceMean", (1, 2)),
    (layers.GlobalMaxPooling1D, "ReduceMax", (1,)),
    (layers.GlobalMaxPooling2D, "ReduceMax", (1, 2)),
):
    register_onnx_writer(_class)(_global_pooling(_op_type, _axes))


def _pooling(op_type):
    def write(build, layer, x):
        _channels_last(layer)
        return build.pooling(x, op_type, layer.pool_size, layer.strides, layer.padding)

    return write


register_onnx_writer(layers.MaxPooling2D)(_pooling("MaxPool"))
register_onnx_writer(layers.AveragePooling2D)(_pooling("AveragePool"))


@register_onnx_writer(layers.UpSampling2D)
def _upsampling(build, layer, x):
    _channels_last(layer)
    mode = {"bilinear": "linear", "nearest": "nearest"}.get(layer.interpolation)
    if mode is None:
        raise ValueError(
            "The ONNX writer of UpSampling2D takes 'nearest' and 'bilinear'; "
            f"{layer.name!r} has {layer.interpolation!r}."
        )
    return build.resize(x, x.shape[1] * layer.size[0], x.shape[2] * layer.size[1], mode)


@register_onnx_writer(layers.Rescaling)
def _rescaling(build, layer, x):
    return build.op("Add", build.op("Mul", x, layer.scale), layer.offset)


@register_onnx_writer(layers.Dropout, layers.SpatialDropout2D, layers.Identity)
def _identity(build, layer, x):
    return x
