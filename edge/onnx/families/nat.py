"""ONNX writers of the layers of NAT."""

from __future__ import annotations

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.nat.neighborhood_bias import NeighborhoodBias
from keras_vit.models.nat.neighborhood_moves import NeighborhoodPartition, NeighborhoodReverse, starts


@register_onnx_writer(NeighborhoodPartition)
def _partition(build, layer, maps):
    batch, height, width, channels = maps.shape
    dilation, (rows, columns), (high, wide) = layer.dilation, layer.grid, layer.reach
    maps = build.reshape(maps, (batch, height // dilation, dilation, width // dilation, dilation, channels))
    maps = build.transpose(maps, (0, 4, 2, 1, 3, 5))
    maps = build.reshape(maps, (batch, dilation**2, height // dilation, width // dilation, channels))
    for axis in (0, 1):
        if layer.reach[axis] > layer.step[axis]:
            reach = layer.reach[axis]
            parts = [build.slice(maps, 2 + axis, start, start + reach) for start in starts(layer, axis)]
            maps = build.concat(parts, 2 + axis)
    maps = build.reshape(maps, (batch, dilation**2 * rows * high, columns, wide, channels))
    return build.reshape(build.transpose(maps, (0, 2, 1, 3, 4)), (batch, -1, channels))


@register_onnx_writer(NeighborhoodReverse)
def _reverse(build, layer, tokens):
    batch, channels, dilation = tokens.shape[0], tokens.shape[-1], layer.dilation
    (rows, columns), (high, wide) = layer.grid, layer.step
    maps = build.reshape(tokens, (batch, columns, dilation, dilation, rows * high, wide, channels))
    maps = build.transpose(maps, (0, 4, 3, 1, 5, 2, 6))
    return build.reshape(maps, (batch, dilation * rows * high, dilation * columns * wide, channels))


@register_onnx_writer(NeighborhoodBias)
def _neighborhood_bias(build, layer, scores):
    known, shape = layer.neighborhoods, scores.shape
    scores = build.reshape(scores, (shape[0], layer.num_heads, known.count, shape[2] * shape[3]))
    scores = build.op("Add", scores, array(layer.bias))
    if known.mask is not None and len(known.mask) > 1:
        scores = build.op("Add", scores, known.mask)
    return build.reshape(scores, shape)
