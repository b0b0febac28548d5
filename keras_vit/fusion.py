"""The inference form of a model: what is linear and constant is folded into its neighbours' weights."""

import keras
import numpy as np

from keras_vit.graph import consumers, flatten, inputs_of, is_called_once, producer, rebuild
from keras_vit.layers import ClassToken, DropPath, LayerNorm, LayerScale, PositionEmbedding, Scale

_GONE_IN_INFERENCE = (keras.layers.Dropout, DropPath, keras.layers.Identity)
_LINEAR = (keras.layers.Dense, keras.layers.Conv2D)


def fuse(model: keras.Model) -> keras.Model:
    """Folds a trained model for inference; its outputs stay equal to rounding.

    - A constant or learned factor after a dense layer or convolution (the attention's 1 / sqrt(d), LayerScale) goes
      into that layer's weights.
    - The scale and shift of a LayerNorm that feeds only dense layers go into theirs.
    - A LayerNorm takes the mean off its input. Where that input is a sum of linear layers' outputs, as between the
      blocks of a transformer, and only norms look at it, those layers are made to give outputs of mean zero, and the
      norm need not. (Ashkboos et al., arXiv 2401.15024, section 3.2, do the same.)
    - Dropout and stochastic depth, which do nothing in inference, are taken out.
    - Mixed precision becomes that of the weights, float32.

    Args:
        model: A functional model; it is left as it was.

    Returns:
        A flat functional model, see `keras_vit.flatten`.
    """
    flat = _without(flatten(model), {})
    weights = {layer.name: {v.name: keras.ops.convert_to_numpy(v) for v in layer.weights} for layer in flat.layers}
    changes = {}  # By name of a layer: what changes in its config.
    flat = _without(flat, _fold_factors(flat, weights))
    _fold_affine_norms(flat, weights, changes)
    _fold_means(flat, weights, changes)

    def make(layer):
        return type(layer).from_config(
            {**layer.get_config(), "dtype": layer.variable_dtype, **changes.get(layer.name, {})}
        )

    fused = rebuild(flat, make)
    for layer in fused.layers:
        for variable in layer.weights:
            variable.assign(weights[layer.name][variable.name])
    return fused


def _fold_factors(flat, weights):
    """Multiplies factors into the linear layers before them; returns the names of the layers that this replaces."""
    gone = set()
    uses = consumers(flat)
    for layer in flat.layers:
        if not isinstance(layer, (Scale, LayerScale)) or not is_called_once(layer):
            continue
        before = producer(inputs_of(layer)[0])
        if _is_linear(before) and len(uses[before.name]) == 1:
            factor = np.float32(layer.factor) if isinstance(layer, Scale) else weights[layer.name]["gamma"]
            for name in weights[before.name]:
                weights[before.name][name] = weights[before.name][name] * factor
            gone.add(layer.name)
    return gone


def _fold_affine_norms(flat, weights, changes):
    """Moves the scale and shift of norms into the dense layers behind them."""
    uses = consumers(flat)
    for layer in flat.layers:
        after = uses[layer.name]
        if not isinstance(layer, LayerNorm) or not layer.affine or not is_called_once(layer):
            continue
        if all(isinstance(user, keras.layers.Dense) and is_called_once(user) for user in after):
            gamma, beta = weights[layer.name].pop("gamma"), weights[layer.name].pop("beta")
            for dense in after:
                kernel = weights[dense.name]["kernel"]
                weights[dense.name]["bias"] = weights[dense.name].get("bias", 0) + beta @ kernel
                weights[dense.name]["kernel"] = gamma[:, None] * kernel
                changes.setdefault(dense.name, {})["use_bias"] = True
            changes.setdefault(layer.name, {})["affine"] = False


def _fold_means(flat, weights, changes):
    """Takes the mean over channels off the weights that make a norm's input, so that the norm need not."""
    uses = consumers(flat)
    centred = set()
    for norm in flat.layers:
        if not isinstance(norm, LayerNorm) or not is_called_once(norm):
            continue
        source = producer(inputs_of(norm)[0])
        stream = [] if source.name in centred else _stream(source, uses)
        if stream is None:
            continue
        for operation in stream:
            # A kernel, bias, token or table has its output channels last.
            for name, array in weights.get(operation.name, {}).items():
                weights[operation.name][name] = array - array.mean(axis=-1, keepdims=True)
            centred.add(operation.name)
        changes.setdefault(norm.name, {})["subtract_mean"] = False


def _stream(start, uses):
    """All that makes up a residual stream, from the layers that write to it to the norms that read it.

    None if something in it is not linear, or something other than a norm looks at it and would see the mean gone.
    """
    stream, waiting = {}, [start]
    while waiting:
        operation = waiting.pop()
        if operation.name in stream:
            continue
        stream[operation.name] = operation
        if not _is_linear(operation):
            if not _passes_means(operation):
                return None
            waiting += [producer(tensor) for tensor in inputs_of(operation)]
        for user in uses[operation.name]:
            if user is None or not (isinstance(user, LayerNorm) or _passes_means(user)):
                return None
            if not isinstance(user, LayerNorm):
                waiting.append(user)
    return list(stream.values())


def _passes_means(operation):
    """Whether inputs of mean zero over the last axis give outputs of mean zero, if its own weights have that too."""
    if type(operation).__name__ == "Reshape":
        return operation.output.shape[-1] == inputs_of(operation)[0].shape[-1]
    return isinstance(operation, (keras.layers.Add, ClassToken, PositionEmbedding)) and is_called_once(operation)


def _is_linear(layer):
    return isinstance(layer, _LINEAR) and layer.activation is keras.activations.linear and is_called_once(layer)


def _without(flat, names):
    def call(layer, *args, **kwargs):
        if layer.name in names or isinstance(layer, _GONE_IN_INFERENCE):
            return args[0]
        return layer(*args, **kwargs)

    return rebuild(flat, call=call)
