"""Writers of the layers that only one family has."""

from __future__ import annotations

import numpy as np

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.layers.window_bias import WindowBias
from keras_vit.models.cait.talking_heads import HeadMixing
from keras_vit.models.efficientvit.linear_attention import LinearAttention
from keras_vit.models.efficientvit_msra.attention_bias import AttentionBias
from keras_vit.models.mobile_former.row_softmax import RowSoftmax
from keras_vit.models.mobilevit.separable_attention import WeightedSum
from keras_vit.models.swin.unit_norm import _EPSILON, _LARGEST, UnitNorm
from keras_vit.models.swin.window_moves import CyclicShift, JoinPatches, WindowPartition, WindowReverse
from keras_vit.models.xcit.cross_covariance import ChannelSoftmax, UnitLength


@register_onnx_writer(AttentionBias)
def _attention_bias(build, layer, x):
    return build.op("Add", x, (array(layer.table) @ layer._spread).reshape(x.shape[-2:]))


@register_onnx_writer(RowSoftmax)
def _row_softmax(build, layer, x):
    return build.softmax(x, axis=-2)


@register_onnx_writer(WeightedSum)
def _weighted_sum(build, layer, tokens, weights):
    with build.float32():
        return build.reduce("ReduceSum", build.op("Mul", tokens, weights), (1,), keepdims=True)


@register_onnx_writer(LinearAttention)
def _linear_attention(build, layer, x):
    dim, tokens = x.shape[2] // 3, x.shape[3]
    with build.float32():
        query, key = (build.op("Relu", build.slice(x, 2, dim * i, dim * (i + 1))) for i in range(2))
        value = build.slice(x, 2, 2 * dim, None)
        if tokens <= dim:  # As in the layer: the smaller matrix first.
            weights = build.matmul(build.swap_last(key), query)
            sums = build.op("Add", build.reduce("ReduceSum", weights, (2,), keepdims=True), layer.epsilon)
            return build.matmul(value, build.op("Div", weights, sums))
        memory = build.matmul(value, build.swap_last(key))
        keys = build.reshape(build.reduce("ReduceSum", key, (3,), keepdims=True), (*x.shape[:2], 1, dim))
        divisor = build.op("Add", build.matmul(keys, query), layer.epsilon)
        return build.op("Div", build.matmul(memory, query), divisor)


@register_onnx_writer(HeadMixing)
def _head_mixing(build, layer, maps):
    with build.float32():
        flat = build.reshape(maps, (*maps.shape[:2], -1))
        mixed = build.matmul(build.tensor(array(layer.kernel)), flat)
        return build.reshape(build.op("Add", mixed, array(layer.bias)[:, None]), maps.shape)


@register_onnx_writer(WindowBias)
def _window_bias(build, layer, scores):
    bias, area = array(layer.bias), layer.windows.area
    repeated = np.broadcast_to(bias, (bias.shape[0], layer.windows.count, bias.shape[2]))
    return build.op("Add", scores, repeated.reshape(-1, area, area))


@register_onnx_writer(CyclicShift)
def _cyclic_shift(build, layer, maps):
    for axis, shift in zip((1, 2), layer.shift, strict=True):
        size = maps.shape[axis]
        if shift % size:
            parts = build.slice(maps, axis, size - shift % size, None), build.slice(maps, axis, 0, size - shift % size)
            maps = build.concat(parts, axis)
    return maps


@register_onnx_writer(WindowPartition)
def _window_partition(build, layer, maps):
    batch, height, width, channels = maps.shape
    windows = build.reshape(maps, (batch, height, width // layer.width, layer.width, channels))
    return build.reshape(build.transpose(windows, (0, 2, 1, 3, 4)), (batch, height * width, channels))


@register_onnx_writer(WindowReverse)
def _window_reverse(build, layer, tokens):
    (height, width), channels = layer.size, tokens.shape[-1]
    windows = build.reshape(tokens, (-1, width // layer.width, height, layer.width, channels))
    return build.reshape(build.transpose(windows, (0, 2, 1, 3, 4)), (-1, height, width, channels))


@register_onnx_writer(JoinPatches)
def _join_patches(build, layer, maps):
    batch, height, width, channels = maps.shape
    patches = build.reshape(maps, (batch, height // 2, 2, width // 2, 2, channels))
    return build.reshape(build.transpose(patches, (0, 1, 3, 4, 2, 5)), (batch, height // 2, width // 2, 4 * channels))


def _unit(build, x, axis, smallest):
    """Return vectors along an axis divided by their length. `smallest` applies a bound to the squared length."""
    with build.float32():
        squares = build.reduce("ReduceSum", build.op("Mul", x, x), (axis,), keepdims=True)
        return build.op("Div", x, build.op("Sqrt", smallest(squares)))


@register_onnx_writer(UnitNorm)
def _unit_norm(build, layer, x):
    unit = _unit(build, x, -1, lambda squares: build.op("Add", squares, _EPSILON))
    if not layer.scaled:
        return unit
    with build.float32():
        return build.op("Mul", unit, np.exp(np.minimum(array(layer.logit_scale), _LARGEST)))


@register_onnx_writer(UnitLength)
def _unit_length(build, layer, x):
    unit = _unit(build, x, 1, lambda squares: build.op("Max", squares, 1e-24))
    if layer.num_heads is None:
        return unit
    with build.float32():
        return build.op("Mul", unit, np.repeat(array(layer.temperature), x.shape[-1] // layer.num_heads))


@register_onnx_writer(ChannelSoftmax)
def _channel_softmax(build, layer, x):
    return build.softmax(x)
