"""ONNX writers of the layers of MobileViT."""

from __future__ import annotations

from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.mobilevit.separable_attention import WeightedSum


@register_onnx_writer(WeightedSum)
def _weighted_sum(build, layer, tokens, weights):
    with build.float32():
        return build.reduce("ReduceSum", build.op("Mul", tokens, weights), (1,), keepdims=True)
