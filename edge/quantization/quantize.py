"""Quantization-aware training: turn a float model into one that trains with the rounding of integers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vit.edge.inputs import input_batches, model_inputs, packed
from keras_vit.edge.quantization.bias_correction import correct_biases
from keras_vit.edge.quantization.fake_quant import (
    FakeQuant,
    QuantizationScheme,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    WithRoundedKernel,
)
from keras_vit.edge.quantization.image_weights import image_weights
from keras_vit.edge.quantization.integer_forms import integer_form
from keras_vit.edge.quantization.integer_layers import AddConstant, MultiplyConstant
from keras_vit.edge.quantization.integer_plan import IntegerPlan, bits_of_layer
from keras_vit.edge.quantization.plan import WITH_KERNEL, Plan
from keras_vit.edge.quantization.ranges import BINS, METHODS, Method, choose_range
from keras_vit.edge.quantization.schemes import SCHEMES, Scheme, find_scheme
from keras_vit.graph.flat_graph import Graph, Node
from keras_vit.graph.fusion import fuse
from keras_vit.graph.rebuilding import rebuild
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings

# The layer that replaces each layer with a kernel or constant.
_QUANTIZED = {
    keras.layers.Dense: QuantizedDense,
    keras.layers.Conv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    AddConstant: AddConstant,
    MultiplyConstant: MultiplyConstant,
}
_PLAIN = {quantized: plain for plain, quantized in _QUANTIZED.items()}
_OF_ROUNDING = ("bits", "learned", "frozen")  # Settings that the replaced layers do not have.

# TensorFlow Lite fuses these into the product before them; any other activation computes in float after it.
_FUSED_ACTIVATIONS = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def quantize_aware(
    model: keras.Model,
    *,
    scheme: str | Scheme = "hybrid_int8",
    calibration_data: Any = None,
    overrides: Mapping[str, str] | None = None,
    ranges: Method = "least_error",
    bias_correction: bool = True,
    learned_steps: bool = False,
    keep_accuracy: float | None = None,
    accuracy_data: Any = None,
    labels: np.ndarray | None = None,
    batch_size: int = 16,
) -> keras.Model:
    """Return a copy of a model that computes with the rounding of integers and can be trained, saved, and exported.

    The model is fused first (`keras_vit.fuse`). Then the kernels of dense layers and convolutions are rounded to the
    integer grid of their output channel, and with fixed ranges, the inputs and output of every product go through a
    `FakeQuant`. So do those of additions, multiplications, SiLU, concatenations, and means whose neighbors are all
    int8, as between convolutions (`keras_vit.edge.quantization.plan`). Without further training, this is
    post-training quantization.

    A layer that is called several times has the same ranges in all calls. Layers that were frozen stay frozen.

    Args:
        model: A functional or sequential model, usually trained in float. It is not changed.
        scheme: One of these names, or a `keras_vit.edge.Scheme`.

            - "hybrid_int8": Products and what lies between them compute in int8 with fixed ranges; normalization,
              softmax, and GELU compute in float.
            - "symmetric_int8": The same with symmetric ranges, for TensorRT.
            - "dynamic_int8": The kernels of products are int8 where this makes them faster. The runtime finds the range
              of a product's input for each image, which the model does not imitate.
            - "int8_weights": Kernels are stored as integers, and everything computes in float.
            - "int4_weights": As "dynamic_int8", with kernels of four bits.
            - "full_int8": Every operator computes in int8 with fixed ranges, and the file takes and gives int8.
            - "int8_int16": As "full_int8", with activations of 16 bits and kernels of eight.
        calibration_data: Images that set the initial ranges: a NumPy array (n, height, width, channels) of images as
            the model takes them, such as from `keras_vit.preprocess_input`, or a tf.data dataset of image batches.
            Datasets of `keras_vit.training` are normalized for the model. For a model of several inputs, a dictionary
            with an array for each input by its name, a list of arrays, or a dataset of batches of these. A few hundred
            images are enough. Schemes with fixed ranges need them.
        overrides: From patterns of layer names to the scheme for these layers, such as `{"head": "float32"}`; see
            `Scheme`. Layers have the names that `keras_vit.fuse` gives them.
        ranges: How the initial range of a tensor follows from its values: "least_error" minimizes the squared error of
            rounding and clipping, relative to the signal of each image, "min_max" clips nothing, and "percentile" clips
            0.01 % of the values at either end.
        bias_correction: Whether layers correct their biases for what rounding does to the mean of each channel, by the
            first batch of `calibration_data` (`keras_vit.edge.quantization.bias_correction`).
        learned_steps: Whether training learns the step of each grid (LSQ; Esser et al., arXiv 1902.08153), of
            activations and of each channel of the kernels. Otherwise, ranges follow the activations and the largest
            magnitudes of the kernels. The step of an activation starts from its range, and that of a channel w with
            integers up to q at 2 mean(|w|) / sqrt(q), but at most at max(|w|) / q. Layers of a constant, such as a
            position embedding, keep the range of its values.
        keep_accuracy: The loss of accuracy that is allowed without further training, in percentage points. The layers
            that cost most (`sensitivity`) stay in float, as few as possible, until the loss is within it. The
            `AccuracyReport` is the attribute `accuracy_report` of the returned model; it is not saved.
        accuracy_data: Images to measure the accuracy on, as `calibration_data`, or a dataset of (image, label) batches.
            Without labels, the accuracy is the fraction of images that are assigned to the same class as by the float
            model. The default is `calibration_data`.
        labels: Class indices (n,) or one-hot labels (n, classes) of `accuracy_data`, if it is an array.
        batch_size: Images per calibration step.

    Returns:
        A flat functional model, as `keras_vit.flatten` returns it.

    Raises:
        ValueError: The scheme is unknown or makes nothing an integer, an override matches no layer, the model is
            quantized already, a layer cannot be copied or would need different ranges in its calls, a layer has no
            integer operators and the scheme needs them, the images are missing, not of the model's input shape, not
            finite, in another range than the model takes, or none at all, or the accuracy cannot be kept.
        TypeError: The model is neither functional nor sequential, or the images are neither an array nor a dataset of
            numbers.
        ImportError: tensorflow-model-optimization is not installed. The message gives the pip command.
    """
    scheme = find_scheme(scheme, overrides)
    if ranges not in METHODS:
        raise ValueError(f"ranges must be one of {METHODS}; received {ranges!r}.")
    if not scheme.makes_integers:
        able = tuple(name for name, each in SCHEMES.items() if each.makes_integers)
        raise ValueError(
            f"The scheme {scheme.name!r} makes nothing an integer: export the float model with "
            f"precision={scheme.name!r}, or pass one of {able}."
        )
    if is_quantized(model):
        raise ValueError(f"The model {model.name!r} is quantized already; pass the float model that it was made from.")
    if scheme.needs_ranges and calibration_data is None:
        raise ValueError(f"{scheme.name} needs the ranges of the activations: pass calibration_data (images).")
    settings = {"calibration_data": calibration_data, "ranges": ranges, "bias_correction": bias_correction}
    settings |= {"learned_steps": learned_steps, "batch_size": batch_size}
    data = calibration_data if accuracy_data is None else accuracy_data
    if keep_accuracy is None:
        if accuracy_data is not None or labels is not None:
            raise ValueError("accuracy_data and labels are for keep_accuracy, the loss that is allowed; it is None.")
        return _quantized(model, scheme, **settings)
    if data is None:
        raise ValueError("keep_accuracy needs images to measure the accuracy on: pass accuracy_data.")
    from keras_vit.edge.quantization.keep_accuracy import quantize_within  # It uses this module.

    def quantize(kept):
        return _quantized(model, dataclasses.replace(scheme, overrides={**scheme.overrides, **kept}), **settings)

    quantized, report = quantize_within(model, keep_accuracy, data, labels, quantize, batch_size=batch_size)
    quantized.accuracy_report = report
    return quantized


def _quantized(
    model: keras.Model,
    scheme: Scheme,
    *,
    calibration_data: Any,
    ranges: Method,
    bias_correction: bool,
    learned_steps: bool,
    batch_size: int,
) -> keras.Model:
    """Return the quantized copy of a float model; see `quantize_aware`."""
    fused = fuse(model)
    scheme.check_overrides(layer.name for layer in fused.layers)
    if scheme.covers_all:
        flat = integer_form(fused, functools.partial(bits_of_layer, scheme))
    else:
        flat = _with_known_operators(fused)
    flat = _with_record(flat, scheme)
    plan = plan_of(flat, scheme)
    batches = functools.partial(input_batches, calibration_data, model_inputs(flat), batch_size, model)
    limits = calibrate(flat, plan, batches, ranges) if scheme.needs_ranges else {}
    limits = plan.adjusted_ranges(limits)

    def make(layer):
        bits = plan.rows[layer.name].kernel_bits
        if bits is None:
            return type(layer).from_config(layer.get_config())
        config = {**layer.get_config(), "bits": bits}
        if isinstance(layer, WITH_KERNEL):
            config["learned"] = learned_steps
        return _QUANTIZED[type(layer)].from_config(config)

    @functools.cache
    def grid(name):
        return FakeQuant(**vars(plan.grids[name]), learned=learned_steps, name=f"{name}.fake_quant")

    quantized = plan.on_grids(flat, make, lambda name, tensors: [grid(name)(tensor) for tensor in tensors])
    for name, ends in limits.items():
        grid(name).range = ends
    plan.prepare(quantized, limits)
    if learned_steps:
        for layer in quantized.layers:
            if isinstance(layer, WithRoundedKernel):
                layer.set_initial_steps()
    if limits and bias_correction:
        images, _ = next(iter(batches()))
        correct_biases(quantized, images)
    return quantized


def is_quantized(model: keras.Model) -> bool:
    """Return whether `quantize_aware` made this model."""
    return any(isinstance(layer, QuantizationScheme) for layer in model.layers)


def scheme_of(quantized: keras.Model) -> Scheme:
    """Return the scheme that a model was quantized with."""
    return next(layer.scheme for layer in quantized.layers if isinstance(layer, QuantizationScheme))


def plan_of(flat: keras.Model, scheme: Scheme) -> Plan | IntegerPlan:
    """Return the plan of the float model inside a quantized one, or of the model that is to become one."""
    return IntegerPlan(flat, scheme) if scheme.covers_all else Plan(flat, scheme)


def calibrate(
    flat: keras.Model, plan: Plan | IntegerPlan, batches: Callable[[], Iterable], method: Method
) -> dict[str, tuple[float, float]]:
    """Return the range of every grid that has no fixed limits, by the grid's name.

    Args:
        flat: The model that the plan is for.
        plan: Its plan.
        batches: Returns an iterable over (an array for each input, labels or None).
        method: How a range follows from the values on its grid.
    """
    found: dict[str, list] = {}

    def observe(name, tensors):
        if plan.grids[name].limits is None:
            found.setdefault(name, []).extend(tensors)
        return tensors

    observed = plan.on_grids(flat, lambda layer: type(layer).from_config(layer.get_config()), observe)
    observer = keras.Model(observed.inputs, list(found.values()))

    def values(batch):
        """Return the values on each grid (images, n)."""
        return [
            tf.concat([tf.reshape(tensor, (tf.shape(tensor)[0], -1)) for tensor in tensors], -1)
            for tensors in observer(packed(observer, batch), training=False)
        ]

    @functools.partial(tf.function, reduce_retracing=True)
    def ends_of(batch):
        return [(tf.reduce_min(each), tf.reduce_max(each)) for each in values(batch)]

    @functools.partial(tf.function, reduce_retracing=True)
    def counts_of(batch, ends):
        weighted = method == "least_error"
        return [_histogram(each, ends[i], weighted) for i, each in enumerate(values(batch))]

    ends = np.zeros((len(found), 2), np.float32)
    counts = np.zeros((len(found), BINS))
    with native_logs(), no_retracing_warnings():
        for batch, _ in batches():
            low, high = np.array(ends_of(batch), np.float32).T
            ends = np.stack([np.minimum(ends[:, 0], low), np.maximum(ends[:, 1], high)], -1)
        # A tensor that is always zero needs a grid too.
        ends[~ends.any(-1)] = (-1.0, 1.0)
        if method != "min_max":
            for batch, _ in batches():
                counts += np.array(counts_of(batch, ends))
    return {
        name: choose_range(method, plan.grids[name], (float(low), float(high)), count)
        for name, (low, high), count in zip(found, ends, counts, strict=True)
    }


def _histogram(values, ends, weighted):
    """Return how many values (images, n) fall into each of `BINS` bins, or the sum of the weights of their images."""
    bins = tf.histogram_fixed_width_bins(values, ends, BINS)
    counts = tf.cast(tf.math.bincount(bins, minlength=BINS, maxlength=BINS, axis=-1), tf.float64)
    if weighted:
        counts *= tf.cast(image_weights(values), tf.float64)[:, None]
    return tf.reduce_sum(counts, 0)


def float_graph(quantized: keras.Model, kernels_on_grid: bool) -> Graph:
    """Return the graph of the float model inside a quantized one.

    Args:
        quantized: A model returned by `quantize_aware`. It is not changed.
        kernels_on_grid: Whether the kernels are rounded, each when it is read, and the biases corrected.
    """
    graph = Graph(quantized)
    for node in graph.nodes:
        layer = node.source
        if node.is_a(FakeQuant):
            graph.remove(node)
        elif node.kind in _PLAIN:
            node.kind = _PLAIN[node.kind]
            node.config = {name: value for name, value in node.config.items() if name not in _OF_ROUNDING}
            if kernels_on_grid and isinstance(layer, WithRoundedKernel):
                node.weights["kernel"] = layer.rounded_kernel
                if layer.corrected_bias is not None:
                    node.config["use_bias"], node.weights["bias"] = True, layer.corrected_bias
    return graph


def float_model(quantized: keras.Model, kernels_on_grid: bool) -> keras.Model:
    """Return the float model inside a quantized one; see `float_graph`."""
    return float_graph(quantized, kernels_on_grid).build()


def ranges_of(quantized: keras.Model) -> dict[str, tuple[float, float]]:
    """Return the range of each grid of a quantized model, by the grid's name in its `Plan`."""
    return {
        layer.name.removesuffix(".fake_quant"): layer.range
        for layer in quantized.layers
        if isinstance(layer, FakeQuant)
    }


def _with_record(flat, scheme):
    """Return a flat model that holds the record of its scheme, right behind its first input."""
    graph = Graph(flat)
    image = next(node for node in graph.nodes if node.is_a(keras.layers.InputLayer)).output
    record = Node(QuantizationScheme, "quantization_scheme")
    record.config = {"scheme": scheme.to_dict(), "dtype": image.dtype}
    graph.insert(record, image, [call.node for call in image.users])
    return graph.build()


def _with_known_operators(flat):
    """Return the model with other layers for some, whose operators in the file are then known.

    Every activation that is not fused is a layer of its own, SiLU is a product, and a mean over maps of one pixel,
    which the converter sometimes leaves out, is a reshape.
    """
    activations = {layer.name: layer.activation for layer in flat.layers if not _has_fused_activation(layer)}

    @functools.cache  # A layer that is called several times has one activation behind it.
    def added(kind, name, *args):
        return kind(*args, name=name)

    def make(layer):
        config = layer.get_config()
        if layer.name in activations:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.silu:
            gate = added(keras.layers.Activation, f"{layer.name}.sigmoid", "sigmoid")(args[0])
            return added(keras.layers.Multiply, layer.name)([args[0], gate])
        if isinstance(layer, keras.layers.GlobalAveragePooling2D) and _size_of_maps(layer, args[0]) == (1, 1):
            return added(keras.layers.Reshape, layer.name, tuple(layer.compute_output_shape(args[0].shape)[1:]))(
                args[0]
            )
        output = layer(*args, **kwargs)
        if layer.name in activations:
            output = added(keras.layers.Activation, f"{layer.name}.activation", activations[layer.name])(output)
        return output

    return rebuild(flat, make, call)


def _size_of_maps(layer, maps):
    """Return the (height, width) of the maps that a layer takes."""
    return tuple(maps.shape[1:3] if layer.data_format == "channels_last" else maps.shape[2:4])


def _has_fused_activation(layer):
    return not isinstance(layer, WITH_KERNEL) or layer.activation in _FUSED_ACTIVATIONS
