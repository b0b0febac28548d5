"""ONNX writers of the layers of Swin."""

from __future__ import annotations

import numpy as np

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.unit_vectors import unit_vectors
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.swin.unit_norm import _EPSILON, _LARGEST, UnitNorm
from keras_vit.models.swin.window_moves import CyclicShift, JoinPatches


@register_onnx_writer(CyclicShift)
def _cyclic_shift(build, layer, maps):
    for axis, shift in zip((1, 2), layer.shift, strict=True):
        size = maps.shape[axis]
        if shift % size:
            parts = build.slice(maps, axis, size - shift % size, None), build.slice(maps, axis, 0, size - shift % size)
            maps = build.concat(parts, axis)
    return maps


@register_onnx_writer(JoinPatches)
def _join_patches(build, layer, maps):
    batch, height, width, channels = maps.shape
    patches = build.reshape(maps, (batch, height // 2, 2, width // 2, 2, channels))
    return build.reshape(build.transpose(patches, (0, 1, 3, 4, 2, 5)), (batch, height // 2, width // 2, 4 * channels))


@register_onnx_writer(UnitNorm)
def _unit_norm(build, layer, x):
    unit = unit_vectors(build, x, -1, lambda squares: build.op("Add", squares, _EPSILON))
    if not layer.scaled:
        return unit
    with build.float32():
        return build.op("Mul", unit, np.exp(np.minimum(array(layer.logit_scale), _LARGEST)))
