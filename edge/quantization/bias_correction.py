"""Correct a quantized model for what rounding does to the mean of each channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_vit.edge.quantization.fake_quant import FakeQuant, QuantizedDense, WithRoundedKernel
from keras_vit.edge.quantization.image_weights import image_weights
from keras_vit.graph.reading import calls_before, inputs_of, producer
from keras_vit.layers import LearnedTokens
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings


def correct_biases(quantized: keras.Model, images: Sequence[Any]) -> int:
    """Let each layer add the mean difference between what it gives in float and with rounding.

    This is the empirical bias correction of Nagel et al. (arXiv 1906.04721, section 4.2), with the mean over images
    weighted by `image_weights`. Layers are corrected one after the other, each with the inputs that the corrected
    layers before it give. A layer with an activation of its own is left as it is.

    Args:
        quantized: A model that computes with rounded kernels and grids, which is changed.
        images: A batch of images, or of what else the model takes: an array for each input.

    Returns:
        Number of layers that were corrected.
    """
    calls = [call for call in calls_before(quantized.outputs) if not call.is_input]
    remaining = Counter(id(tensor) for call in calls for tensor in call.input_tensors)
    # By id of a tensor, its value in float and with rounding.
    in_float = {
        id(tensor): ops.convert_to_tensor(values) for tensor, values in zip(quantized.inputs, images, strict=True)
    }
    rounded = dict(in_float)
    folded = _folded_into_tokens(calls)
    corrected = 0
    with native_logs(), no_retracing_warnings():
        for call in calls:
            layer = call.operation
            args, kwargs = call.arguments.fill_in(in_float)
            exact = _without_rounding(layer, args, kwargs)
            args, kwargs = call.arguments.fill_in(rounded)
            output = layer(*args, **kwargs)
            if _is_correctable(layer) and layer.name not in folded:
                difference = _mean_by_channel(exact - output, image_weights(exact))
                layer.correction.assign_add(ops.cast(difference, layer.correction.dtype))
                output = output + difference
                corrected += 1
            for values, outputs in ((in_float, exact), (rounded, output)):
                for tensor, value in zip(call.output_tensors, keras.tree.flatten(outputs), strict=True):
                    values[id(tensor)] = value
            for tensor in call.input_tensors:
                remaining[id(tensor)] -= 1
                if not remaining[id(tensor)]:
                    in_float.pop(id(tensor)), rounded.pop(id(tensor))
    return corrected


def _without_rounding(layer, args, kwargs):
    if isinstance(layer, FakeQuant):
        return args[0]
    if isinstance(layer, WithRoundedKernel):
        return layer.without_rounding(*args, **kwargs)
    return layer(*args, **kwargs)


def _mean_by_channel(values, weights):
    """Return the mean over images, which have these weights, and positions."""
    by_image = ops.mean(values, axis=tuple(range(1, len(values.shape) - 1))) if len(values.shape) > 2 else values
    return ops.sum(by_image * weights[:, None], axis=0) / ops.sum(weights)


def _folded_into_tokens(calls) -> set[str]:
    """Return the names of dense layers without a bias whose outputs are added to learned tokens.

    The converter would move a bias to the tokens, and the dense layer would give other numbers than its range is for.
    """
    found = set()
    for call in calls:
        before = [producer(tensor) for tensor in call.input_tensors]
        before = [producer(inputs_of(each)[0]) if isinstance(each, FakeQuant) else each for each in before]
        if isinstance(call.operation, keras.layers.Add) and any(isinstance(each, LearnedTokens) for each in before):
            found |= {each.name for each in before if isinstance(each, QuantizedDense) and not each.use_bias}
    return found


def _is_correctable(layer) -> bool:
    return (
        isinstance(layer, WithRoundedKernel)
        and layer.activation is keras.activations.linear
        and len(layer._inbound_nodes) == 1
    )
