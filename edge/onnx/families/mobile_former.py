"""ONNX writers of the layers of Mobile-Former."""

from __future__ import annotations

from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.mobile_former.row_softmax import RowSoftmax


@register_onnx_writer(RowSoftmax)
def _row_softmax(build, layer, x):
    return build.softmax(x, axis=-2)
