"""The inference form of a model: what is linear and constant is folded into its neighbours' weights."""

import keras
import numpy as np

from keras_vit.graph import consumers, copy, flatten, inputs_of, is_called_once, producer, rebuild
from keras_vit.layers import DropPath, LayerNorm, LayerScale, Scale

_GONE_IN_INFERENCE = (keras.layers.Dropout, DropPath, keras.layers.Identity)
_LINEAR = (keras.layers.Dense, keras.layers.Conv2D)


def fuse(model: keras.Model) -> keras.Model:
    """Folds a trained model for inference; its outputs stay equal to rounding.

    - A constant or learned factor after a dense layer or convolution (the attention's 1 / sqrt(d), LayerScale) goes
      into that layer's weights.
    - The scale and shift of a LayerNorm that feeds only dense layers go into theirs.
    - Dropout and stochastic depth, which do nothing in inference, are taken out.
    - Mixed precision becomes that of the weights, float32.

    Args:
        model: A functional model; it is left as it was.

    Returns:
        A flat functional model, see `keras_vit.flatten`.
    """
    flat = _without(flatten(model), {})
    weights = {layer.name: {v.name: keras.ops.convert_to_numpy(v) for v in layer.weights} for layer in flat.layers}
    gone, affine_folded, biased = set(), set(), set()
    uses = consumers(flat)

    for layer in flat.layers:
        factor = _factor(layer, weights[layer.name])
        if factor is None or not is_called_once(layer):
            continue
        before = producer(inputs_of(layer)[0])
        if _is_linear(before) and is_called_once(before) and len(uses[before.name]) == 1:
            for name in weights[before.name]:
                weights[before.name][name] = weights[before.name][name] * factor
            gone.add(layer.name)

    for layer in flat.layers:
        after = uses[layer.name]
        if isinstance(layer, LayerNorm) and layer.affine and is_called_once(layer) and all(map(_is_lone_dense, after)):
            gamma, beta = weights[layer.name].pop("gamma"), weights[layer.name].pop("beta")
            for dense in after:
                kernel = weights[dense.name]["kernel"]
                weights[dense.name]["bias"] = weights[dense.name].get("bias", 0) + beta @ kernel
                weights[dense.name]["kernel"] = gamma[:, None] * kernel
                biased.add(dense.name)
            affine_folded.add(layer.name)

    def make(layer):
        config = {**layer.get_config(), "dtype": layer.variable_dtype}
        if layer.name in affine_folded:
            config["affine"] = False
        if layer.name in biased:
            config["use_bias"] = True
        return type(layer).from_config(config)

    fused = _without(flat, gone, make)
    for layer in fused.layers:
        for variable in layer.weights:
            variable.assign(weights[layer.name][variable.name])
    return fused


def _without(flat, names, make=copy):
    def call(layer, *args, **kwargs):
        if layer.name in names or isinstance(layer, _GONE_IN_INFERENCE):
            return args[0]
        return layer(*args, **kwargs)

    return rebuild(flat, make, call)


def _factor(layer, weights):
    if isinstance(layer, Scale):
        return np.float32(layer.factor)
    if isinstance(layer, LayerScale):
        return weights["gamma"]
    return None


def _is_linear(layer):
    return isinstance(layer, _LINEAR) and layer.activation is keras.activations.linear


def _is_lone_dense(layer):
    return isinstance(layer, keras.layers.Dense) and is_called_once(layer)
