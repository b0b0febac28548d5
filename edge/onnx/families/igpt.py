"""ONNX writers of the layers of iGPT."""

from __future__ import annotations

import numpy as np

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.igpt.causal_attention import CausalMask, causal_mask
from keras_vit.models.igpt.colors import _SHARP, NearestColor


@register_onnx_writer(CausalMask)
def _causal_mask(build, layer, scores):
    return build.op("Add", scores, causal_mask(scores.shape[-1]))


@register_onnx_writer(NearestColor)
def _nearest_color(build, layer, images):
    batch, height, width, channels = images.shape
    centers = array(layer.centers)
    with build.float32():
        pixels = build.reshape(images, (batch, height * width, channels))
        scores = build.tensor(-np.square(centers).sum(axis=1))
        for channel in range(channels):
            column = build.slice(pixels, 2, channel, channel + 1)
            scores = build.op("Add", build.op("Mul", column, 2 * centers[:, channel]), scores)
        distances = build.op("Sub", build.reduce("ReduceMax", scores, (-1,), keepdims=True), scores)
        nearest = build.op("Relu", build.op("Sub", np.float32(1), build.op("Mul", distances, np.float32(_SHARP))))
        return build.op("Div", nearest, build.reduce("ReduceSum", nearest, (-1,), keepdims=True))
