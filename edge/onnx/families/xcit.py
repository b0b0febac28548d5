"""ONNX writers of the layers of XCiT."""

from __future__ import annotations

import numpy as np

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.unit_vectors import unit_vectors
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.xcit.cross_covariance import ChannelSoftmax, UnitLength


@register_onnx_writer(UnitLength)
def _unit_length(build, layer, x):
    unit = unit_vectors(build, x, 1, lambda squares: build.op("Max", squares, 1e-24))
    if layer.num_heads is None:
        return unit
    with build.float32():
        return build.op("Mul", unit, np.repeat(array(layer.temperature), x.shape[-1] // layer.num_heads))


@register_onnx_writer(ChannelSoftmax)
def _channel_softmax(build, layer, x):
    return build.softmax(x)
