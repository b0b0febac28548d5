"""Facts about a model, such as its cost and its paper."""

import math
import threading
from typing import Any

import keras
import numpy as np

from keras_vit.graph.flat_graph import Graph, Node
from keras_vit.layers import FloatMatMul, MatMul
from keras_vit.models.registry import create_model, list_weights, variant


def count_macs(model: keras.Model) -> int:
    """Count the multiply-accumulates of a model for one image.

    Convolutions, dense layers and products of activations count; elementwise operations, normalization, softmax and
    pooling do not. Papers that report FLOPs nearly always mean this number.

    A layer that computes other products defines a method `macs(input_shape)`, which takes the shape of its first input,
    including the batch, and returns their number.

    Args:
        model: A functional or sequential model.
    """
    return sum(_macs(node) for node in Graph(model).nodes)


def _macs(node: Node) -> int:
    layer: Any = node.source
    first = node.inputs[0].shape if node.inputs else ()
    outputs = sum(math.prod(call.outputs[0].shape[1:]) for call in node.calls)
    if isinstance(layer, keras.layers.Dense):
        return outputs * layer.kernel.shape[0]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return outputs * math.prod(layer.kernel_size)
    if isinstance(layer, keras.layers.Conv2D):
        return outputs * math.prod(layer.kernel.shape[:-1])
    if isinstance(layer, (MatMul, FloatMatMul)):
        return outputs * first[-1]
    if hasattr(layer, "macs"):
        return sum(layer.macs(call.inputs[0].shape) for call in node.calls)
    return 0


def model_info(name: str, **kwargs) -> dict:
    """Return the facts about a model.

    Args:
        name: One of `list_models()`.
        kwargs: Arguments of the model's function that change its cost, such as `classes` or `input_shape`.

    Returns:
        A dictionary with the keys name, function, family, image_size (height and width in pixels), parameters (without
        running statistics), macs (see `count_macs`), paper, license, top1 and top1_weights. top1 is the best
        ImageNet-1k top-1 accuracy in percent of all published weights, at their image size, and top1_weights is the tag
        of those weights. Both are None if no accuracy is known.

    Raises:
        ValueError: There is no such model.
    """
    entry = variant(name)
    facts = {}

    def measure():
        # In a stateless scope, variables have a shape but use no memory, so even a model with a billion weights is
        # cheap. Keras keeps a list of such variables for each thread, so a thread of its own leaves nothing behind.
        try:
            with keras.StatelessScope(initialize_variables=False):
                model = create_model(name, **kwargs)
                facts["parameters"] = sum(int(np.prod(v.shape)) for v in model.trainable_weights)
                facts["macs"] = count_macs(model)
        except Exception as error:
            facts["error"] = error

    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
    if "error" in facts:
        raise facts["error"]
    measured = [(record.top1, record.tag) for record in list_weights(name) if record.top1 is not None]
    top1, tag = max(measured, default=(None, None))
    return {
        "name": name,
        "function": entry.function_name,
        "family": entry.builder,
        "image_size": tuple(kwargs.get("input_shape") or entry.image_size)[:2],
        "parameters": facts["parameters"],
        "macs": facts["macs"],
        "paper": entry.paper,
        "license": entry.license,
        "top1": top1,
        "top1_weights": tag,
    }
