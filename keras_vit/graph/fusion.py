"""The inference form of a model: what is linear or constant goes into the weights of its neighbors."""

import keras
import numpy as np

from keras_vit.graph.factors import scale_and_shift
from keras_vit.graph.flat_graph import Graph, Node
from keras_vit.graph.reading import RESHAPES, TRANSPOSE
from keras_vit.layers import (
    Affine,
    ClassToken,
    GroupNorm,
    LayerNorm,
    LearnedTokens,
    PositionEmbedding,
    Preprocessing,
    RegisterTokens,
    Resize,
    ResizeToEven,
    Unfold,
)


def fuse(model: keras.Model) -> keras.Model:
    """Fuse a trained model for inference; its outputs stay equal up to rounding.

    - Layers that do nothing in inference, such as dropout, stochastic depth and Keras' augmentation, are removed. A
      layer class declares that it is one of these by the attribute `identity_in_inference = True`.
    - A constant or learned factor after a dense layer or convolution (the attention's 1 / sqrt(d), LayerScale) goes
      into that layer's weights, and so do a constant that is added and a batch normalization. A batch normalization
      before linear layers goes into those, unless a convolution pads its input: the zeros are not normalized.
    - A factor that is one number, such as `Rescaling(1 / 255)`, goes into the linear layers that take the product.
      Numbers that are added before a linear layer stay, unless it takes vectors: without them, the layer's input would
      be less suited for int8, as pixels from 0 to 255 use only half of a grid that is symmetric around zero.
    - The scale and shift of a LayerNorm or GroupNorm go into the linear layers that use its output. Other users get
      them from a layer of their own.
    - A LayerNorm subtracts the mean of its input. Where that input is a sum of linear layers' outputs, as between the
      blocks of a transformer, and only norms use it, the mean is subtracted from those layers' weights, and the norm
      skips it. (Ashkboos et al., arXiv 2401.15024, section 3.2, do the same.)
    - A dense layer whose only input is learned tokens becomes learned tokens. The bias of a dense layer whose output
      is added to learned tokens goes into them.
    - A depthwise convolution with several outputs for each of few channels becomes two convolutions, which the CPU
      delegate computes faster.
    - Everything computes in float32, also what was float16, bfloat16 or mixed precision.

    Args:
        model: A functional or sequential model; it is left as it was.

    Returns:
        A flat functional model, see `keras_vit.flatten`. Frozen layers stay frozen.

    Raises:
        TypeError: The model is neither functional nor sequential.
        ValueError: A layer cannot be copied, such as a Lambda layer.
    """
    graph = Graph(model)
    for fold in _FOLDS:
        fold(graph)
    return graph.build()


def _remove_identities(graph: Graph) -> None:
    """Remove each layer that passes its input on unchanged in inference."""
    for node in graph.nodes:
        if _is_identity(node) and _keeps_dtype(node):
            graph.remove(node)


def _keeps_dtype(node: Node) -> bool:
    """Whether a node of one input gives the type that it takes, and not, say, floats for integers."""
    return all(call.inputs[0].dtype == call.outputs[0].dtype for call in node.calls)


def _is_identity(node: Node) -> bool:
    if node.is_a(keras.layers.Activation):
        return node.config.get("activation") == "linear"
    if node.is_a(Resize, ResizeToEven):
        return all(call.inputs[0].shape == call.outputs[0].shape for call in node.calls)
    found = None if node.is_a(Preprocessing) else scale_and_shift(node)
    if found is not None:
        return bool(np.all(found[0] == 1) and not np.any(found[1]))
    return node.is_a(*IDENTITIES) or getattr(node.kind, "identity_in_inference", False)


def _use_full_precision(graph: Graph) -> None:
    """Let each layer compute in the precision of its weights, or in float32 if that is less."""
    for node in graph.nodes:
        if isinstance(node.source, keras.layers.Layer):
            node.config["dtype"] = _at_least_float32(node.source.variable_dtype)
        for call in node.calls:
            for tensor in call.outputs:
                tensor.dtype = _at_least_float32(tensor.dtype)


def _at_least_float32(dtype: str) -> str:
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _fold_factors_back(graph: Graph) -> None:
    """Fold each factor, constant or batch normalization into the linear layer before it.

    It must be the only user of that layer, and have one value for each channel or one for all. Both may be shared, if
    each call of the one takes a call of the other. Exact, since (x K + b) s + t = x (K s) + (b s + t).

    A positive factor goes through a ReLU, since max(x, 0) s = max(x s, 0). The converter would do that too, and give an
    int8 layer another output than its range is for.
    """
    for node in graph.nodes:
        found = None if node.is_a(Preprocessing) else scale_and_shift(node)
        linear = _linear_before(node, np.all(found[0] > 0) and not np.any(found[1])) if found else None
        if linear is None:
            continue
        channels = node.inputs[0].shape[-1]
        scale, shift = (np.broadcast_to(values, channels) for values in found)
        weights = linear.weights
        # A depthwise kernel has its output channels in two axes.
        per_output = np.reshape(scale, weights["kernel"].shape[-2:]) if _is_depthwise(linear) else scale
        weights["kernel"] = weights["kernel"] * per_output
        if "bias" in weights or np.any(shift):
            _set_bias(linear, weights.get("bias", 0) * scale + shift)
        graph.remove(node)


def _fold_norms_ahead(graph: Graph) -> None:
    """Fold each norm's scale and shift, and a whole batch normalization, into the linear layers behind it.

    A batch normalization goes only if all its users are such layers. A LayerNorm or GroupNorm keeps what it computes;
    users that are not linear get its scale and shift from an `Affine` layer. The converter would do as much, and give
    an int8 layer another input and another kernel than the ranges are for. Exact, since
    (x s + t) K + b = x (s K) + (t K + b).
    """
    for node in graph.nodes:
        is_batch_norm = node.is_a(keras.layers.BatchNormalization)
        if not is_batch_norm and not (node.is_a(LayerNorm, GroupNorm) and node.config["affine"]):
            continue
        users = list(dict.fromkeys(node.users))
        linear = [user for user in users if user is not None and _sees_every_channel_alike(user, node)]
        others = [user for user in users if user not in linear]
        found = scale_and_shift(node) if is_batch_norm else (node.weights["gamma"], node.weights.get("beta", 0))
        if found is None or not linear or (others and (is_batch_norm or not node.is_called_once)):
            continue
        channels = node.inputs[0].shape[-1]
        for user in linear:
            _fold_into_inputs(user, *(np.broadcast_to(values, channels) for values in found))
        if is_batch_norm:
            graph.remove(node)
            continue
        if others:
            affine = Node(Affine, f"{node.name}.affine")
            affine.config = {"dtype": node.config["dtype"], "trainable": node.config["trainable"]}
            affine.weights = node.weights
            graph.insert(affine, node.output, others)
        node.weights = {}
        node.config["affine"] = False


def _fold_into_inputs(linear: Node, scale: np.ndarray, shift: np.ndarray) -> None:
    """Let a linear layer's own weights scale and shift the channels of its input."""
    kernel = linear.weights["kernel"]
    groups = linear.config.get("groups", 1)
    per_group = kernel.shape[-1] // groups
    # (inputs, outputs): the scale and shift of the input channel that each element of the kernel multiplies.
    scales, shifts = (np.repeat(values.reshape(groups, -1).T, per_group, axis=1) for values in (scale, shift))
    axes = tuple(range(kernel.ndim - 1))
    _set_bias(linear, linear.weights.get("bias", 0) + (kernel * shifts).sum(axes))
    linear.weights["kernel"] = kernel * scales


def _fold_numbers_ahead(graph: Graph) -> None:
    """Fold each factor that is one number for all channels into the linear layers that take the product.

    The grid of the factor's input in int8 is that of its output, times a constant. Exact, since (x s) K = x (s K), also
    where a convolution pads, since zeros stay zeros. A number that is added goes into a dense layer of vectors, where
    the converter would fold it in any case.
    """
    for node in reversed(graph.nodes):  # The last of several in a row is the first to go.
        found = None if node.is_a(Preprocessing) else scale_and_shift(node)
        if found is None or any(values.ndim for values in found) or not _keeps_dtype(node):
            continue
        users = set(node.users)
        if not users or not all(user and user.is_a(*_LINEAR) and _takes_only(user, node) for user in users):
            continue
        scale, shift = found
        if shift and any(len(call.inputs[0].shape) != 2 for call in node.calls):
            continue
        for user in users:
            kernel = user.weights["kernel"]
            if shift:
                _set_bias(user, user.weights.get("bias", 0) + shift * kernel.sum(axis=0))
            user.weights["kernel"] = kernel * scale
        graph.remove(node)


def _fold_means(graph: Graph) -> None:
    """Subtract the mean over channels from the weights that make a LayerNorm's input, so that the norm can skip it.

    Everything that the input is made of must be linear, and only norms may use it, see `_stream`. Exact, since the mean
    of a sum is the sum of the means, and a norm gives the same whether its input's mean is zero or not.
    """
    centered = set()
    for norm in graph.nodes:
        if not norm.is_a(LayerNorm) or not norm.is_called_once:
            continue
        source = norm.inputs[0].node
        stream = [] if source in centered else _stream(source)
        if stream is None:
            continue
        for node in stream:
            # A kernel, bias, token or table has its output channels last.
            for name, array in node.weights.items():
                node.weights[name] = array - array.mean(axis=-1, keepdims=True)
        centered.update(stream)
        norm.config["subtract_mean"] = False


def _stream(start: Node) -> list[Node] | None:
    """Return all that makes up a residual stream, from the layers that write to it to the norms that read it.

    None if something in it is not linear, or something other than a norm uses it and would see the mean gone.
    """
    stream, waiting = {}, [start]
    while waiting:
        node = waiting.pop()
        if node in stream:
            continue
        stream[node] = None
        if not _is_linear(node) or _is_depthwise(node):
            if not _passes_means(node):
                return None
            waiting += [tensor.node for tensor in node.inputs]
        for user in node.users:
            if user is None or not (user.is_a(LayerNorm) or _passes_means(user)):
                return None
            if not user.is_a(LayerNorm):
                waiting.append(user)
    return list(stream)


def _project_learned_tokens(graph: Graph) -> None:
    """Turn each dense layer that takes learned tokens into the learned tokens that it gives.

    Exact, since they are the same for every image.
    """
    learned = [node for node in graph.nodes if node.is_a(LearnedTokens)]
    for node in graph.nodes:
        if not node.is_a(keras.layers.Dense) or not _is_linear(node) or node.inputs[0].node not in learned:
            continue
        tokens, weights = node.inputs[0].node.weights["tokens"], node.weights
        node.weights = {"tokens": tokens @ weights["kernel"] + weights.get("bias", 0)}
        node.kind = LearnedTokens
        num_tokens, width = node.output.shape[1:]
        kept = {name: node.config[name] for name in ("dtype", "trainable")}
        node.config = {"num_tokens": num_tokens, "width": width, **kept}


def _fold_biases_into_tokens(graph: Graph) -> None:
    """Move the bias of a dense layer to the learned tokens that its output is added to.

    Exact where nothing else uses the tokens but the size of their batch. The converter does this too, after which the
    dense layer gives other numbers than the range of its output is for.
    """
    for add in graph.nodes:
        if not add.is_a(keras.layers.Add) or not add.is_called_once:
            continue
        before = [tensor.node for tensor in add.inputs]
        tokens = next((node for node in before if node.is_a(LearnedTokens)), None)
        # Learned tokens that were a dense layer use only the size of the batch.
        if tokens is None or any(user is not add and not (user and user.is_a(LearnedTokens)) for user in tokens.users):
            continue
        for node in before:
            if node.is_a(keras.layers.Dense) and _is_linear(node) and node.users == [add]:
                tokens.weights["tokens"] = tokens.weights["tokens"] + node.weights.pop("bias", np.float32(0))
                node.config["use_bias"] = False


# Up to this many channels, repeating them costs less than it saves, by measurements from 7 x 7 to 112 x 112.
_MAX_REPEATED_CHANNELS = 192


def _split_multipliers(graph: Graph) -> None:
    """Repeat the channels before a depthwise convolution with several outputs for each, which then has one for each.

    The CPU delegate has a fast kernel only for one output a channel; the others it computes as grouped convolutions
    with a group for each channel, two to four times slower. The repeating is a pointwise convolution with a kernel of
    zeros and ones, which is exact in int8 too.
    """
    for node in graph.nodes:
        if not _is_depthwise(node) or node.config["depth_multiplier"] == 1 or set(node.config["strides"]) != {1}:
            continue
        kernel = node.weights["kernel"]
        height, width, channels, multiplier = kernel.shape
        outputs = channels * multiplier
        if outputs > _MAX_REPEATED_CHANNELS or not node.is_called_once:
            continue
        node.weights["kernel"] = kernel.reshape(height, width, outputs, 1)
        node.config["depth_multiplier"] = 1
        repeat = Node(keras.layers.Conv2D, f"{node.name}.repeat")
        repeat.config = {
            "filters": outputs,
            "kernel_size": 1,
            "use_bias": False,
            "trainable": False,
            "dtype": node.config["dtype"],
        }
        ones = np.repeat(np.eye(channels, dtype=kernel.dtype), multiplier, axis=1)
        repeat.weights = {"kernel": ones.reshape(1, 1, channels, outputs)}
        graph.insert(repeat, node.inputs[0], [node])


# In this order: what one fold leaves is what the next one finds.
_FOLDS = (
    _use_full_precision,
    _remove_identities,
    _fold_factors_back,
    _fold_norms_ahead,
    _fold_numbers_ahead,
    _fold_means,
    _project_learned_tokens,
    _fold_biases_into_tokens,
    _split_multipliers,
)

_LINEAR = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
# Keras' layers that pass their input on unchanged in inference, those among them that this version of Keras has.
IDENTITIES = tuple(
    getattr(keras.layers, name)
    for name in (
        "ActivityRegularization",
        "AlphaDropout",
        "AugMix",
        "CutMix",
        "Dropout",
        "Equalization",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "MixUp",
        "RandAugment",
        "RandomBrightness",
        "RandomColorDegeneration",
        "RandomColorJitter",
        "RandomContrast",
        "RandomElasticTransform",
        "RandomErasing",
        "RandomFlip",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomHue",
        "RandomInvert",
        "RandomPerspective",
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
        "RandomTranslation",
        "RandomZoom",
        "Solarization",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
    )
    if hasattr(keras.layers, name)
)

_PASSING_MEANS = (keras.layers.Add, ClassToken, PositionEmbedding, RegisterTokens, Resize, Unfold)


def _set_bias(linear: Node, bias: np.ndarray) -> None:
    linear.weights["bias"] = bias
    linear.config["use_bias"] = True


def _takes_only(user: Node, node: Node) -> bool:
    """Whether all that a layer takes, in all its calls, is the output of one node."""
    return all(tensor.node is node for tensor in user.inputs)


def _takes_all_of(user: Node, node: Node) -> bool:
    """Whether a layer takes all that another node gives, and nothing else, and is its only user."""
    return _takes_only(user, node) and set(node.users) == {user}


def _sees_every_channel_alike(linear: Node, node: Node) -> bool:
    """Whether a layer is linear with a kernel that a scale and a shift of the channels of its input can go into.

    A convolution that pads is not: its zeros come after the shift.
    """
    if not linear.is_a(keras.layers.Dense, keras.layers.Conv2D) or not _takes_only(linear, node):
        return False
    config = linear.config
    return linear.is_a(keras.layers.Dense) or config["padding"] == "valid" or set(config["kernel_size"]) == {1}


def _passes_means(node: Node) -> bool:
    """Whether inputs of mean zero over the last axis give outputs of mean zero, if its own weights have that too."""
    if node.is_a(*RESHAPES):
        return node.is_called_once and node.output.shape[-1] == node.inputs[0].shape[-1]
    if node.is_a(TRANSPOSE):
        axes = node.config["axes"]
        return axes is not None and axes[-1] == len(axes) - 1
    return node.is_a(*_PASSING_MEANS) and node.is_called_once


def _linear_before(node: Node, positive: bool) -> Node | None:
    """Return the linear layer that a factor can go into; `positive` says whether it can go through a ReLU."""
    before = node.inputs[0].node
    if positive and _is_relu(before) and _takes_all_of(node, before):
        node, before = before, before.inputs[0].node
        positive = False
    activations = ("linear", "relu") if positive else ("linear",)
    fits = before.is_a(*_LINEAR) and before.config["activation"] in activations and _takes_all_of(node, before)
    return before if fits else None


def _is_relu(node: Node) -> bool:
    config = node.config if node.is_a(keras.layers.Activation, keras.layers.ReLU) else {}
    if node.is_a(keras.layers.ReLU):
        return config["max_value"] is None and not config["negative_slope"] and not config["threshold"]
    return config.get("activation") == "relu"


def _is_linear(node: Node) -> bool:
    return node.is_a(*_LINEAR) and node.config["activation"] == "linear" and node.is_called_once


def _is_depthwise(node: Node) -> bool:
    return node.is_a(keras.layers.DepthwiseConv2D)
