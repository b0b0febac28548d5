"""ONNX writers of the layers of EfficientViT (MSRA)."""

from __future__ import annotations

from keras_vit.edge.onnx.keras_layers import array
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.efficientvit_msra.attention_bias import AttentionBias


@register_onnx_writer(AttentionBias)
def _attention_bias(build, layer, x):
    return build.op("Add", x, (array(layer.table) @ layer._spread).reshape(x.shape[-2:]))
