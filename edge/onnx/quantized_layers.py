"""Writers of the layers of a quantized model."""

from __future__ import annotations

import numpy as np

from keras_vit.edge.onnx.keras_layers import activated, convolution, depthwise_kernel, weights_of
from keras_vit.edge.onnx.keras_layers import array as array_of
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.edge.quantization.fake_quant import (
    FakeQuant,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    SigmoidGrid,
)


def _steps(kernel: np.ndarray) -> np.ndarray:
    """Return the step of the int8 grid of each output channel, as `on_grid` computes it."""
    return np.maximum(np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0), 1e-12) / np.float32(127)


@register_onnx_writer(FakeQuant)
def _fake_quant(build, layer, x):
    lowest, highest = layer.range
    if lowest != -highest:
        raise ValueError(
            f"The range of {layer.name!r} is {lowest} to {highest}; ONNX files have symmetric ranges, as "
            "TensorRT demands."
        )
    return build.quantize(x, highest / 127)


@register_onnx_writer(SigmoidGrid)
def _sigmoid_grid(build, layer, x):
    # Its grid begins at 0, which TensorRT's zero points of 0 cannot express. A symmetric grid would have steps of twice
    # the size; staying in float is closer to the grid than that, and costs nothing between operators that are fused.
    return x


@register_onnx_writer(QuantizedDense)
def _dense(build, layer, x):
    kernel = array_of(layer.kernel)
    return activated(build, layer, build.linear(x, weights_of(layer, kernel, _steps(kernel))))


@register_onnx_writer(QuantizedConv2D)
def _convolution(build, layer, x):
    kernel = array_of(layer.kernel)
    return convolution(build, layer, x, weights_of(layer, kernel, _steps(kernel)), layer.groups)


@register_onnx_writer(QuantizedDepthwiseConv2D)
def _depthwise(build, layer, x):
    kernel = depthwise_kernel(layer)
    return convolution(build, layer, x, weights_of(layer, kernel, _steps(kernel)), x.shape[-1])
