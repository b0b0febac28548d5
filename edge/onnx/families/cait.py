"""ONNX writers of the layers of CaiT."""

from __future__ import annotations

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.cait.talking_heads import HeadMixing


@register_onnx_writer(HeadMixing)
def _head_mixing(build, layer, maps):
    with build.float32():
        flat = build.reshape(maps, (*maps.shape[:2], -1))
        mixed = build.matmul(build.tensor(array(layer.kernel)), flat)
        return build.reshape(build.op("Add", mixed, array(layer.bias)[:, None]), maps.shape)
