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
    RMSNorm,
    Unfold,
)
from keras_vit.layers.pooling import AdaptiveAveragePooling


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
    - The scale and shift of a LayerNorm, GroupNorm or RMSNorm go into the linear layers that use its output. Other
      users get them from a layer of their own.
    - A LayerNorm subtracts the mean of its input. Where that input is a sum of linear layers' outputs, as between the
      blocks of a transformer, and only norms use it, the mean is subtracted from those layers' weights, and the norm
      skips it. (Ashkboos et al., arXiv 2401.15024, section 3.2, do the same.)
    - A dense layer whose only input is learned tokens becomes learned tokens. The bias of a dense layer whose output
      is added to learned tokens goes into them.
    - A batch normalization that none of these takes becomes a scale and shift of each channel.
    - A depthwise convolution with several outputs for each of few channels becomes two convolutions, which the CPU
      delegate computes faster. One with a large kernel becomes the sum of four with smaller kernels.
    - What a layer computes from its weights alone becomes a weight. Such a layer has a method `inference_form()`, which
      returns the class, the configuration and the weights of the layer that takes its place.
    - A convolution over patches of few channels takes the columns of a patch as channels, which the CPU delegate
      computes faster.
    - Everything computes in float32, also what was float16, bfloat16 or mixed precision.

    Norms are also folded through layers that only move pixels. A layer class declares that it is one of these by the
    attribute `moves_pixels = True`: each vector of channels in its output is a vector of its input, or several joined.

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
    if node.is_a(Resize, ResizeToEven, AdaptiveAveragePooling):
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
        if found is None:
            continue
        linear = _linear_before(node, bool(np.all(found[0] > 0) and not np.any(found[1])))
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

    A batch normalization goes only if all its users are such layers. Another norm keeps what it computes;
    users that are not linear get its scale and shift from an `Affine` layer. The converter would do as much, and give
    an int8 layer another input and another kernel than the ranges are for. Exact, since
    (x s + t) K + b = x (s K) + (t K + b).
    """
    for node in graph.nodes:
        is_batch_norm = node.is_a(keras.layers.BatchNormalization)
        if not is_batch_norm and not (node.is_a(LayerNorm, GroupNorm, RMSNorm) and node.config["affine"]):
            continue
        linear, others = _linear_users(node)
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
            affine.weights = {"beta": np.zeros_like(node.weights["gamma"]), **node.weights}
            graph.insert(affine, node.output, others)
        node.weights = {}
        node.config["affine"] = False


def _linear_users(norm: Node) -> tuple[list[Node], list[Node | None]]:
    """Return the linear layers that take the output of a norm, directly or after moves, and the norm's other users.

    The scale and shift of the norm can go into a linear layer that sees every channel alike.
    """
    linear: list[Node] = []
    others: list[Node | None] = []
    for user in dict.fromkeys(norm.users):
        ends = _behind_moves(user, norm, norm.inputs[0].shape[-1])
        alike = [end for end, before in ends if end is not None and _sees_every_channel_alike(end, before)]
        if ends and len(alike) == len(ends):
            linear += alike
        else:
            others.append(user)
    return list(dict.fromkeys(linear)), others


def _behind_moves(user: Node | None, before: Node, channels: int) -> list[tuple[Node | None, Node]]:
    """Return a user of a node, with that node; if it only moves pixels of these channels, the users of its output."""
    if user is None or not _moves_pixels(user) or not user.is_called_once or user.output.shape[-1] != channels:
        return [(user, before)]
    return [end for after in dict.fromkeys(user.users) for end in _behind_moves(after, user, channels)]


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
        layers = [user for user in users if user and user.is_a(*_LINEAR) and _takes_only(user, node)]
        if not layers or len(layers) < len(users):
            continue
        scale, shift = found
        if shift and any(len(call.inputs[0].shape) != 2 for call in node.calls):
            continue
        for user in layers:
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


def _take_inference_forms(graph: Graph) -> None:
    """Replace each layer that has an `inference_form` by the layer that it names."""
    for node in graph.nodes:
        if hasattr(node.source, "inference_form"):
            trainable = node.config["trainable"]
            node.kind, config, node.weights = node.source.inference_form()
            node.config = {**config, "dtype": node.source.variable_dtype, "trainable": trainable}


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


# The CPU delegate has fast kernels for depthwise convolutions of up to this many elements for each channel.
MAX_TAPS = 25
# With at most this many channels, a dense convolution is faster in int8, see `keras_vit.edge.conversion.export`.
FEW_CHANNELS = 16


def _split_large_depthwise(graph: Graph) -> None:
    """Split a depthwise convolution with a large kernel into four with a dilation of 2, whose outputs are added.

    They take the even and the odd rows and columns of the kernel. The CPU delegate computes a kernel of more than 25
    elements as a grouped convolution: 9 x 9 takes 10 ms for 16 x 16 pixels of 1024 channels, and its four parts 1.7 ms.
    Exact, since a sum may be split, and zero padding is the same for all parts: each spans as much of the kernel before
    its center as behind it.
    """
    for node in graph.nodes:
        if not _is_depthwise(node) or not _is_linear(node) or not node.is_called_once:
            continue
        config, kernel = node.config, node.weights["kernel"]
        height, width = kernel.shape[:2]
        is_plain = config["padding"] == "same" and {*config["strides"], *config["dilation_rate"]} == {1}
        halves = -(-height // 2) * -(-width // 2)
        fits = height % 2 == 1 and width % 2 == 1 and height * width > MAX_TAPS >= halves
        if not is_plain or not fits or kernel.shape[2] <= FEW_CHANNELS:
            continue
        parts = []
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            part = Node(keras.layers.DepthwiseConv2D, f"{node.name}.part{len(parts)}")
            taps = kernel[row::2, column::2]
            part.config = {**config, "kernel_size": taps.shape[:2], "dilation_rate": (2, 2), "use_bias": False}
            part.weights = {"kernel": taps}
            parts.append(part)
        if "bias" in node.weights:
            parts[0].config["use_bias"] = True
            parts[0].weights["bias"] = node.weights["bias"]
        graph.split(node, parts)


def _merge_columns_of_patches(graph: Graph) -> None:
    """Let a convolution over patches of few channels take all columns of a patch as channels.

    The CPU delegate pads three channels to eight, so that it computes a patch embedding of (16, 16) pixels of three
    channels almost three times faster as one of (16, 1) pixels of 48 channels. Exact: the numbers keep their order.
    """
    for node in graph.nodes:
        if not node.is_a(keras.layers.Conv2D) or _is_depthwise(node) or not node.is_called_once:
            continue
        _, height, width, channels = node.inputs[0].shape
        rows, columns = node.config["kernel_size"]
        plain = set(node.config["dilation_rate"]) == {1} and node.config["groups"] == 1
        if not plain or channels >= 8 or columns < 2 or node.config["strides"] != (rows, columns):
            continue
        if None in (height, width) or height % rows or width % columns:
            continue
        reshape = Node(keras.layers.Reshape, f"{node.name}.columns", trainable=False)
        reshape.config = {
            "target_shape": (height, width // columns, columns * channels),
            "dtype": node.config["dtype"],
        }
        kernel = node.weights["kernel"]
        node.weights["kernel"] = kernel.reshape(rows, 1, columns * channels, kernel.shape[-1])
        node.config.update(kernel_size=(rows, 1), strides=(rows, 1), padding="valid")
        graph.insert(reshape, node.inputs[0], [node])


def _affines_for_norms(graph: Graph) -> None:
    """Turn each batch normalization that is left into the scale and shift that it is in inference."""
    for node in graph.nodes:
        found = scale_and_shift(node) if node.is_a(keras.layers.BatchNormalization) else None
        if found is not None:
            scale, shift = (np.broadcast_to(values, node.inputs[0].shape[-1]) for values in found)
            kept = {name: node.config[name] for name in ("dtype", "trainable")}
            node.become(Affine, kept, {"gamma": scale, "beta": shift})


# In this order: what one fold leaves is what the next one finds.
_FOLDS = (
    _use_full_precision,
    _remove_identities,
    _take_inference_forms,
    _fold_factors_back,
    _fold_norms_ahead,
    _fold_numbers_ahead,
    _fold_means,
    _project_learned_tokens,
    _fold_biases_into_tokens,
    _affines_for_norms,
    _merge_columns_of_patches,
    _split_multipliers,
    _split_large_depthwise,
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
    if _moves_pixels(node):  # From joined pixels, a norm subtracts their common mean, not the mean of each.
        return node.is_called_once and node.output.shape[-1] == node.inputs[0].shape[-1]
    return node.is_a(*_PASSING_MEANS) and node.is_called_once


def _moves_pixels(node: Node) -> bool:
    return getattr(node.kind, "moves_pixels", False)


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
