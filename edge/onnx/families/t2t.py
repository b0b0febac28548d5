"""ONNX writers of the layers of T2T-ViT."""

from __future__ import annotations

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.operations import Weights
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.t2t.performer import _EPSILON, PerformerAttention
from keras_vit.models.t2t.sinusoid_positions import SinusoidPositions
from keras_vit.models.t2t.soft_split import SoftSplit


@register_onnx_writer(SinusoidPositions)
def _sinusoid_positions(build, layer, x):
    return build.op("Add", x, array(layer.table))


@register_onnx_writer(SoftSplit)
def _soft_split(build, layer, maps):
    batch, rows, columns, _ = layer.compute_output_shape(maps.shape)
    side, step, (_, height, width, channels) = layer.kernel_size, layer.strides, maps.shape
    groups = build.reshape(maps, (batch, height, width // step, step * channels))
    parts = []
    for start in range(-(-side // step)):
        part = build.slice(groups, 2, start, start + columns)
        parts.append(build.slice(part, 3, 0, min(step, side - start * step) * channels))
    joined = build.concat(parts, 3)
    groups = build.reshape(joined, (batch, height // step, step, columns * side * channels))
    parts = []
    for row in range(side):
        start, within = divmod(row, step)
        part = build.slice(build.slice(groups, 1, start, start + rows), 2, within, within + 1)
        parts.append(build.reshape(part, (batch, rows, columns, side * channels)))
    return build.concat(parts, 3)


@register_onnx_writer(PerformerAttention)
def _performer_attention(build, layer, tokens, values):
    with build.float32():
        keys = _features(build, layer, tokens, layer.key_kernel, layer.key_bias)
        queries = _features(build, layer, tokens, layer.query_kernel, layer.query_bias)
        transposed = build.swap_last(keys)
        memory = build.matmul(transposed, values)
        sums = build.swap_last(build.reduce("ReduceSum", keys, (1,), keepdims=True))
        divisor = build.op("Add", build.matmul(queries, sums), _EPSILON)
        return build.op("Div", build.matmul(queries, memory), divisor)


def _features(build, layer, tokens, kernel, bias):
    x = build.linear(tokens, Weights(array(kernel), array(bias)))
    exponents = build.linear(x, Weights(array(layer.random_matrix).T, None))
    lengths = build.reduce("ReduceSum", build.op("Mul", x, x), (2,), keepdims=True)
    features = build.op("Exp", build.op("Sub", exponents, build.op("Mul", lengths, 0.5)))
    return build.op("Mul", features, layer.num_features**-0.5)
