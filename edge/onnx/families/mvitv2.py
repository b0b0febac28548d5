"""ONNX writers of the layers of MViTv2."""

from __future__ import annotations

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.mvitv2.pooling import EdgePadding
from keras_vit.models.mvitv2.relative_scores import AddAxisScores, AxisScores


@register_onnx_writer(EdgePadding)
def _edge_padding(build, layer, maps):
    for axis in (1, 2):
        size = maps.shape[axis]
        last = [build.slice(maps, axis, size - 1, size)] * (size % 2)
        maps = build.concat([build.slice(maps, axis, 0, 1), maps, *last], axis)
    return maps


@register_onnx_writer(AxisScores)
def _axis_scores(build, layer, queries):
    return build.matmul(queries, build.tensor(array(layer.vectors)))


@register_onnx_writer(AddAxisScores)
def _add_axis_scores(build, layer, scores, rows, columns):
    batch, heads, queries, pixels = scores.shape
    height, width = layer.keys
    maps = build.reshape(scores, (batch, heads * queries, height, width))
    maps = build.op("Add", maps, build.reshape(rows, (batch, heads * queries, height, 1)))
    maps = build.op("Add", maps, build.reshape(columns, (batch, heads * queries, 1, width)))
    return build.reshape(maps, (batch, heads, queries, pixels))
