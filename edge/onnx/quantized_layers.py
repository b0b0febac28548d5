"""Writers of the layers of a quantized model."""

from __future__ import annotations

import numpy as np

from keras_vit.edge.onnx.keras_layers import activated, array, convolution, depthwise_kernel
from keras_vit.edge.onnx.operations import Weights
from keras_vit.edge.onnx.writers import register_onnx_writer
from keras_vit.edge.quantization.fake_quant import (
    FakeQuant,
    QuantizationScheme,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from keras_vit.edge.quantization.plan import LARGEST_BIAS, is_layout
from keras_vit.graph.reading import inputs_of, producer


@register_onnx_writer(QuantizationScheme)
def _scheme(build, layer, x):
    return x


@register_onnx_writer(FakeQuant)
def _fake_quant(build, layer, x):
    if layer.bits != 8:
        raise ValueError(f"{layer.name!r} rounds to {layer.bits} bits; ONNX files have int8.")
    low, high = layer.range
    if layer.symmetric:
        return build.quantize(x, high / 127)
    if layer.limits is None:
        raise ValueError(
            f"The range of {layer.name!r}, {low:.3g} to {high:.3g}, is not symmetric, and TensorRT refuses that: "
            "quantize the model with scheme='symmetric_int8' for an ONNX file."
        )
    # TensorRT takes only zero points of 0. So the value of integer 0 is subtracted before and added again: 1/2 for a
    # sigmoid. Without rounding, or with the larger steps of a symmetric grid, SiLU would differ from the trained model.
    step = (high - low) / 255
    middle = (128 - round(-low / step)) * step
    return build.op("Add", build.quantize(build.op("Sub", x, middle), step), middle)


def _weights(layer, kernel):
    """Return the weights of a layer, with its bias corrected, and the steps of the grids as `on_grid` has them."""
    if layer.bits != 8:
        raise ValueError(f"The kernel of {layer.name!r} has {layer.bits} bits; ONNX files have kernels of int8.")
    limits = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0)
    if layer.learned:  # Larger weights are clipped.
        limits = np.abs(array(layer.rounded_kernel())).reshape(-1, kernel.shape[-1]).max(axis=0)
        kernel = np.clip(kernel, -limits, limits)
    bias = layer.corrected_bias
    if bias is not None:  # A runtime stores it in steps of the product, see `fit_biases`.
        limits = np.maximum(limits, 127 * np.abs(bias) / (LARGEST_BIAS * _input_step(layer)))
    return Weights(kernel, bias, np.maximum(limits, 1e-12) / np.float32(127))


def _input_step(layer) -> np.float32:
    """Return the step of the grid that a layer takes its input on; infinite if that is in float."""
    before = producer(inputs_of(layer)[0])
    while is_layout(before):
        before = producer(inputs_of(before)[0])
    if not isinstance(before, FakeQuant):
        return np.float32(np.inf)
    low, high = before.range
    return np.float32((high - low) / 254)


@register_onnx_writer(QuantizedDense)
def _dense(build, layer, x):
    return activated(build, layer, build.linear(x, _weights(layer, array(layer.kernel))))


@register_onnx_writer(QuantizedConv2D)
def _convolution(build, layer, x):
    return convolution(build, layer, x, _weights(layer, array(layer.kernel)), layer.groups)


@register_onnx_writer(QuantizedDepthwiseConv2D)
def _depthwise(build, layer, x):
    return convolution(build, layer, x, _weights(layer, depthwise_kernel(layer)), x.shape[-1])
