"""The inference form of a model: what is linear and constant is folded into its neighbours' weights."""

import keras
import numpy as np

from keras_vit.graph.flattening import flatten
from keras_vit.graph.reading import consumers, inputs_of, is_called_once, producer
from keras_vit.graph.rebuilding import rebuild, remade
from keras_vit.layers import (
    Affine,
    ClassToken,
    DropPath,
    GroupNorm,
    HeadScale,
    LayerNorm,
    LayerScale,
    LearnedTokens,
    PositionEmbedding,
    RegisterTokens,
    Resize,
    Scale,
    Shift,
    Unfold,
)

_GONE_IN_INFERENCE = (keras.layers.Dropout, DropPath, keras.layers.Identity)
_LINEAR = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_FACTORS = (Scale, LayerScale, HeadScale, Shift, keras.layers.BatchNormalization)
_AFFINE_NORMS = (LayerNorm, GroupNorm)
_PASSING_MEANS = (keras.layers.Add, ClassToken, PositionEmbedding, RegisterTokens, Resize, Unfold)


def fuse(model: keras.Model) -> keras.Model:
    """Folds a trained model for inference; its outputs stay equal to rounding.

    - A constant or learned factor after a dense layer or convolution (the attention's 1 / sqrt(d), LayerScale) goes
      into that layer's weights, and so do a constant that is added and a batch normalization. A batch normalization
      before linear layers goes into those, unless a convolution pads its input: the zeros are not normalized.
    - The scale and shift of a LayerNorm or GroupNorm go into the linear layers that it feeds. What else it feeds gets
      them from a layer of their own.
    - A LayerNorm takes the mean off its input. Where that input is a sum of linear layers' outputs, as between the
      blocks of a transformer, and only norms look at it, those layers are made to give outputs of mean zero, and the
      norm need not. (Ashkboos et al., arXiv 2401.15024, section 3.2, do the same.)
    - A depthwise convolution that multiplies few channels becomes two steps, see `_split_multipliers`.
    - A dense layer that sees nothing but learned tokens gives learned tokens. The bias of one that is added to learned
      tokens goes into them.
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
    flat = _without(flat, _fold_back(flat, weights, changes))
    gone, bare = _fold_ahead(flat, weights, changes)
    flat = _without(flat, gone)
    _fold_means(flat, weights, changes)
    constant = _fold_tokens(flat, weights)
    _fold_into_tokens(flat, weights, changes, constant)
    repeats = _split_multipliers(flat, weights, changes)

    def make(layer):
        if layer.name in constant:
            return LearnedTokens(*layer.output.shape[1:], dtype=layer.variable_dtype, name=layer.name)
        return type(layer).from_config(
            {**layer.get_config(), "dtype": layer.variable_dtype, **changes.get(layer.name, {})}
        )

    before = {}  # By name of a linear layer that folded a norm's scale and shift: the norm's output without them.

    def call(layer, inputs, *args, **kwargs):
        if layer.name in repeats:
            inputs = keras.layers.Conv2D(**repeats[layer.name], dtype=layer.variable_dtype)(inputs)
        output = layer(before.get(layer.name, inputs), *args, **kwargs)
        if layer.name in bare:
            before.update(dict.fromkeys(bare[layer.name], output))
            output = Affine(dtype=layer.variable_dtype, name=f"{layer.name}.affine")(output)
        return output

    fused = remade(flat, make, call)
    for layer in fused.layers:
        for variable in layer.weights:
            variable.assign(weights[layer.name][variable.name])
    return fused


def _fold_back(flat, weights, changes):
    """Folds factors and batch norms into the linear layers before them; returns the names of the layers that go."""
    gone = {}  # By name: the linear layer that does a layer's work now.
    uses = consumers(flat)
    for layer in flat.layers:
        if not isinstance(layer, _FACTORS) or not is_called_once(layer):
            continue
        before = producer(inputs_of(layer)[0])
        alone = len(uses[before.name]) == 1
        before = gone.get(before.name, before)
        if alone and _is_linear(before) and _is_over_channels(layer):
            channels = inputs_of(layer)[0].shape[-1]
            scale, shift = (np.broadcast_to(v, channels) for v in _scale_and_shift(layer, weights[layer.name]))
            held = weights[before.name]
            per_output = np.reshape(scale, held["kernel"].shape[-2:]) if _is_depthwise(before) else scale
            held["kernel"] = held["kernel"] * per_output
            if "bias" in held or np.any(shift):
                held["bias"] = held.get("bias", 0) * scale + shift
                changes.setdefault(before.name, {})["use_bias"] = True
            gone[layer.name] = before
    return gone


def _fold_ahead(flat, weights, changes):
    """Folds batch norms, and the scale and shift of other norms, into the linear layers behind them.

    Returns the names of the layers that go and, by name of each norm that other layers too look at, the names of the
    linear ones, which do without its scale and shift. The converter would do as much, and give an int8 layer another
    input and another kernel than the ranges are for.
    """
    gone, bare = set(), {}
    uses = consumers(flat)
    for layer in flat.layers:
        if isinstance(layer, _AFFINE_NORMS):
            foldable = layer.affine
        else:
            foldable = isinstance(layer, keras.layers.BatchNormalization) and _is_over_channels(layer)
        after = list(filter(_sees_every_channel_alike, uses[layer.name]))
        everywhere = len(after) == len(uses[layer.name])
        if not foldable or not is_called_once(layer) or not after:
            continue
        if not everywhere and not isinstance(layer, _AFFINE_NORMS):
            continue
        scale, shift = _scale_and_shift(layer, weights[layer.name])
        for linear in after:
            held = weights[linear.name]
            # (inputs, outputs): what multiplies the input channel that each kernel element looks at.
            groups = getattr(linear, "groups", 1)
            per_output = held["kernel"].shape[-1] // groups
            scales, shifts = (np.repeat(v.reshape(groups, -1).T, per_output, axis=1) for v in (scale, shift))
            axes = tuple(range(held["kernel"].ndim - 1))
            held["bias"] = held.get("bias", 0) + (held["kernel"] * shifts).sum(axes)
            held["kernel"] = held["kernel"] * scales
            changes.setdefault(linear.name, {})["use_bias"] = True
        if isinstance(layer, _AFFINE_NORMS):
            if not everywhere:
                bare[layer.name] = [linear.name for linear in after]
                weights[f"{layer.name}.affine"] = weights[layer.name]
            weights[layer.name] = {}
            changes.setdefault(layer.name, {})["affine"] = False
        else:
            gone.add(layer.name)
    return gone, bare


def _scale_and_shift(layer, held):
    """What a factor or a norm multiplies each channel by at the end, and then adds to it."""
    if isinstance(layer, Scale):
        return np.float32(layer.factor), np.float32(0)
    if isinstance(layer, HeadScale):
        return np.repeat(held["gamma"], inputs_of(layer)[0].shape[-1] // layer.num_heads), np.float32(0)
    if isinstance(layer, Shift):
        return np.float32(1), np.float32(layer.offset)
    if isinstance(layer, keras.layers.BatchNormalization):
        scale = held.get("gamma", 1) / np.sqrt(held["moving_variance"] + layer.epsilon)
        return scale, held.get("beta", 0) - held["moving_mean"] * scale
    return held["gamma"], held.get("beta", np.float32(0))


def _is_over_channels(layer):
    """Whether a factor or norm has one value a channel, the last axis."""
    axis = getattr(layer, "axis", -1)
    return axis in (-1, len(inputs_of(layer)[0].shape) - 1)


def _sees_every_channel_alike(layer):
    """Whether a layer is linear with a kernel that a scale and a shift of its input's channels can go into.

    A convolution that pads is not: its zeros come after the shift.
    """
    if not isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)) or not is_called_once(layer):
        return False
    return isinstance(layer, keras.layers.Dense) or layer.padding == "valid" or layer.kernel_size == (1, 1)


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


def _fold_tokens(flat, weights):
    """Projects learned tokens once and for all; returns the names of the dense layers that are tokens now."""
    constant = set()
    for dense in flat.layers:
        if isinstance(dense, keras.layers.Dense) and _is_linear(dense):
            tokens = producer(inputs_of(dense)[0])
            if isinstance(tokens, LearnedTokens):
                held = weights[dense.name]
                projected = weights[tokens.name]["tokens"] @ held["kernel"] + held.get("bias", 0)
                weights[dense.name] = {"tokens": projected}
                constant.add(dense.name)
    return constant


def _fold_into_tokens(flat, weights, changes, constant):
    """Adds to learned tokens the bias of a dense layer that they are added to, and leaves it out there.

    The converter does this too, after which the dense layer gives other numbers than the range of its output is for.
    """
    uses = consumers(flat)
    for add in flat.layers:
        if not isinstance(add, keras.layers.Add) or not is_called_once(add):
            continue
        before = [producer(tensor) for tensor in inputs_of(add)]
        tokens = next((layer for layer in before if isinstance(layer, LearnedTokens)), None)
        # A dense layer that gives tokens itself by now looks at nothing of its input but the size of the batch.
        others = [] if tokens is None else [user for user in uses[tokens.name] if user is not add]
        if tokens is None or any(user is None or user.name not in constant for user in others):
            continue
        for dense in before:
            if isinstance(dense, keras.layers.Dense) and _is_linear(dense) and uses[dense.name] == [add]:
                held = weights[dense.name]
                weights[tokens.name]["tokens"] = weights[tokens.name]["tokens"] + held.pop("bias", np.float32(0))
                changes.setdefault(dense.name, {})["use_bias"] = False


# Up to this many channels, repeating them costs less than it saves, by measurements from 7 x 7 to 112 x 112.
_REPEATED_AT_MOST = 192


def _split_multipliers(flat, weights, changes):
    """Repeats each channel before a depthwise convolution with several outputs a channel, which then has one for each.

    The CPU delegate has a fast kernel for one output a channel alone; the others it computes as grouped convolutions
    with a group for each channel, two to four times slower. The repeating is a pointwise convolution with a kernel of
    zeros and ones, which is exact in int8 too.

    Returns the settings of that convolution by name of the depthwise one.
    """
    repeats = {}
    for layer in flat.layers:
        if not _is_depthwise(layer) or layer.depth_multiplier == 1 or layer.strides != (1, 1):
            continue
        kernel = weights[layer.name]["kernel"]
        height, width, channels, multiplier = kernel.shape
        outputs, name = channels * multiplier, f"{layer.name}.repeat"
        if outputs <= _REPEATED_AT_MOST and is_called_once(layer):
            weights[layer.name]["kernel"] = kernel.reshape(height, width, outputs, 1)
            changes.setdefault(layer.name, {})["depth_multiplier"] = 1
            ones = np.repeat(np.eye(channels, dtype=kernel.dtype), multiplier, axis=1)
            weights[name] = {"kernel": ones.reshape(1, 1, channels, outputs)}
            repeats[layer.name] = {
                "filters": outputs,
                "kernel_size": 1,
                "use_bias": False,
                "trainable": False,
                "name": name,
            }
    return repeats


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
        if not _is_linear(operation) or _is_depthwise(operation):
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
    if type(operation).__name__ == "Transpose":
        return operation.axes is not None and operation.axes[-1] == len(operation.axes) - 1
    return isinstance(operation, _PASSING_MEANS) and is_called_once(operation)


def _is_linear(layer):
    return isinstance(layer, _LINEAR) and layer.activation is keras.activations.linear and is_called_once(layer)


def _is_depthwise(layer):
    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _without(flat, names):
    def call(layer, *args, **kwargs):
        if layer.name in names or isinstance(layer, _GONE_IN_INFERENCE):
            return args[0]
        return layer(*args, **kwargs)

    return rebuild(flat, call=call)
