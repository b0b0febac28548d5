"""The facts about a model: what it costs and where it comes from."""

import math
import threading

import keras
import numpy as np

from keras_vit.graph.flattening import opened_up
from keras_vit.graph.reading import inputs_of
from keras_vit.layers import FloatMatMul, MatMul
from keras_vit.models.efficientvit.linear_attention import LinearAttention
from keras_vit.models.registry import create_model, list_weights, variant


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates of one image: convolutions, dense layers and products of activations.

    Papers that say FLOPs nearly always mean this number. Elementwise work, norms, softmax and pooling are not counted.
    """
    return sum(_macs(layer) for layer in opened_up(model).layers)


def _macs(layer) -> int:
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.output.shape[1:]) * layer.kernel.shape[0]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return math.prod(layer.output.shape[1:]) * math.prod(layer.kernel_size)
    if isinstance(layer, keras.layers.Conv2D):
        return math.prod(layer.output.shape[1:]) * math.prod(layer.kernel.shape[:-1])
    if isinstance(layer, LinearAttention):
        return layer.macs(inputs_of(layer)[0].shape)
    if isinstance(layer, (MatMul, FloatMatMul)):
        return math.prod(layer.output.shape[1:]) * inputs_of(layer)[0].shape[-1]
    return 0


def model_info(name: str, **kwargs) -> dict:
    """What is known of a model.

    Args:
        name: One of `list_models()`.
        kwargs: Arguments of the model's function that change its cost, such as `classes` or `input_shape`.

    Returns:
        A dictionary: name, function, family, image_size (height, width) in pixels, parameters (running statistics not
        counted), macs (see `count_macs`), paper, license, top1. The last is the best ImageNet-1k accuracy in percent
        among the published weights, at the image size of those, and top1_weights is their tag; both are None where none
        is known.
    """
    entry = variant(name)
    facts = {}

    def measure():
        # Within a stateless scope variables have a shape and no memory, so that a model of a billion weights costs
        # nothing. Keras keeps a list, per thread, of variables that wait for their values: a thread of its own
        # takes that list with it when it ends.
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
    measured = [record for record in list_weights(name) if record.top1 is not None]
    best = max(measured, key=lambda record: record.top1, default=None)
    return {
        "name": name,
        "function": entry.function_name,
        "family": entry.builder,
        "image_size": tuple(kwargs.get("input_shape") or entry.image_size)[:2],
        "parameters": facts["parameters"],
        "macs": facts["macs"],
        "paper": entry.paper,
        "license": entry.license,
        "top1": best.top1 if best else None,
        "top1_weights": best.tag if best else None,
    }
