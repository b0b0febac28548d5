"""ONNX writers of the layers of CPVT and Twins."""

from __future__ import annotations

from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.cpvt.local_attention import WindowSoftmax


@register_onnx_writer(WindowSoftmax)
def _window_softmax(build, layer, scores):
    return build.softmax(scores)
