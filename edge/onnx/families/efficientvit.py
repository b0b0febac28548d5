"""ONNX writers of the layers of EfficientViT (MIT)."""

from __future__ import annotations

from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.models.efficientvit.linear_attention import LinearAttention


@register_onnx_writer(LinearAttention)
def _linear_attention(build, layer, x):
    dim, tokens = x.shape[2] // 3, x.shape[3]
    with build.float32():
        query, key = (build.op("Relu", build.slice(x, 2, dim * i, dim * (i + 1))) for i in range(2))
        value = build.slice(x, 2, 2 * dim, None)
        if tokens <= dim:  # As in the layer: the smaller matrix first.
            weights = build.matmul(build.swap_last(key), query)
            sums = build.op("Add", build.reduce("ReduceSum", weights, (2,), keepdims=True), layer.epsilon)
            return build.matmul(value, build.op("Div", weights, sums))
        memory = build.matmul(value, build.swap_last(key))
        keys = build.reshape(build.reduce("ReduceSum", key, (3,), keepdims=True), (*x.shape[:2], 1, dim))
        divisor = build.op("Add", build.matmul(keys, query), layer.epsilon)
        return build.op("Div", build.matmul(memory, query), divisor)
