"""Convert a Keras model to a TensorFlow Lite (LiteRT) or ONNX file."""

import gc
import os
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vit.edge.conversion.description import describe, with_runtime
from keras_vit.edge.conversion.int8_file import quantize_file
from keras_vit.edge.conversion.integer_file import write_integer_file
from keras_vit.edge.conversion.kernel_placeholders import KernelPlaceholders
from keras_vit.edge.conversion.memory import release_memory
from keras_vit.edge.conversion.neighbors import neighbors_of, output_layers
from keras_vit.edge.conversion.saving import prepared, save
from keras_vit.edge.conversion.self_check import SelfCheck
from keras_vit.edge.files.description import ENTRY
from keras_vit.edge.files.op_versions import min_runtime
from keras_vit.edge.files.tflite_graph import read_graph
from keras_vit.edge.files.tflite_metadata import metadata_front
from keras_vit.edge.quantization.integer_plan import IntegerPlan
from keras_vit.edge.quantization.plan import Plan, Row
from keras_vit.edge.quantization.quantize import (
    float_model,
    is_quantized,
    plan_of,
    quantize_aware,
    ranges_of,
    scheme_of,
)
from keras_vit.edge.quantization.schemes import Scheme, find_scheme
from keras_vit.graph.flat_graph import Graph
from keras_vit.graph.fusion import FEW_CHANNELS, MAX_TAPS, fuse
from keras_vit.utils.files import replacing
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings


def export(
    model: keras.Model,
    path: str | os.PathLike,
    precision: str | Scheme | None = None,
    *,
    calibration_data: Any = None,
    overrides: Mapping[str, str] | None = None,
    verify: Any = True,
    opset: int | None = None,
    batch_size: int = 1,
) -> str:
    """Write a model to a .tflite or .onnx file with static shapes.

    The model is fused first (`keras_vit.fuse`). The file is written beside its target, its outputs are compared with
    those of the model, and then it is moved into place. So a failed export leaves a file that existed before as it was.

    The signature of the file has the model's names: those of the inputs if there are several ("image" for one), and the
    keys of a dictionary of outputs ("output_0", "output_1" and so on for others). The metadata of the file say how the
    model takes images, the names of its classes, and more; `keras_vit.edge.file_info` reads them.

    Args:
        model: A functional or sequential float model, or a model returned by `quantize_aware`. It is not changed.
        path: The file to write. Its name ends in ".tflite" or ".onnx", which chooses the format.
        precision: One of the following, or a `keras_vit.edge.Scheme`. The default is the scheme of a quantized model,
            and "float32" for a float model.

            - "float32": Weights and computation in float32.
            - "float16": Weights stored in float16, computation in float32. An .onnx file also computes in float16,
              except for normalization, softmax and linear attention, and takes and gives float32.
            - "int8_weights": Kernels stored in int8, with one range per output channel; computation in float32.
            - "dynamic_int8": Weights of products stored in int8 where this makes them faster. The runtime quantizes the
              inputs of these products for each image. Not for .onnx files.
            - "int4_weights": As "dynamic_int8", with kernels of four bits. Without quantization-aware training, most
              models lose much accuracy. Not for .onnx files.
            - "hybrid_int8": Products, and what lies between products, computed in int8 with fixed ranges. The rest is
              computed in float32.
            - "symmetric_int8": As "hybrid_int8", with symmetric ranges.
            - "full_int8": Every operator computed in int8 with fixed ranges. The file takes and gives int8, with
              the step and the integer for 0 that its input and output tensors have.
            - "int8_int16": As "full_int8", with activations of 16 bits and kernels of eight.
        calibration_data: Images that set the ranges of a float model for the last four, as `quantize_aware` takes
            them. A quantized model has its own ranges.
        overrides: For a float model, from patterns of layer names to the scheme for these layers, as `quantize_aware`
            takes them.
        verify: What the file and the model are compared on: images as the model takes them, of which the first two are
            used; True for the first calibration images or, without any, for two smooth random images in the model's
            range; False to leave the comparison out.
        opset: The version of an .onnx file's operators, 17 to 20. The default is 20.
        batch_size: The number of images that the file takes at once. With "full_int8" and "int8_int16", it is one.

    Returns:
        The path as a string.

    Raises:
        TypeError: The model is neither functional nor sequential.
        ValueError: The precision is unknown, not that of a quantized model or not for this format, the file's name ends
            in something else, fixed ranges of a float model are asked for without calibration data, an argument does
            not suit the format, a layer cannot be copied, such as a Lambda layer, or a layer has no integer operators,
            and the precision needs them. For .onnx also: a layer has no writer (see `register_onnx_writer`), the model
            takes images of any size, or its weights are too large for one file.
        ImportError: A package that the format or the precision needs is not installed. The message gives the pip
            command.
        RuntimeError: The layers of the model cannot be found in the converted file, an int8 layer has another input
            there than in the model, or the file's outputs are not those of the model.
    """
    path = os.fspath(path)
    if path.endswith(".onnx"):
        from keras_vit.edge.onnx.conversion import export_onnx

        return export_onnx(
            model,
            path,
            precision,
            calibration_data=calibration_data,
            overrides=overrides,
            opset=opset,
            batch_size=batch_size,
            verify=verify,
        )
    if not path.endswith(".tflite"):
        raise ValueError(
            "The name of an ONNX file ends in .onnx, and that of a TensorFlow Lite file ends in .tflite; "
            f"received {path!r}."
        )
    if opset is not None:
        raise ValueError(f"A .tflite file has no opset; received opset={opset}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; received {batch_size}.")
    scheme, reference, flat, plan, ranges = _planned(model, precision, overrides, calibration_data)
    if isinstance(plan, IntegerPlan) and batch_size != 1:
        raise ValueError(f"A file in {scheme.name!r} takes one image at a time; received batch_size={batch_size}.")
    # To find the layer at which a wrong file parts from the model, which is not kept alive for this alone.
    remembered = weakref.ref(model)

    def reference_again() -> keras.Model | None:
        model = remembered()
        return None if model is None else _planned(model, precision, overrides, calibration_data)[1]

    description = describe(model, scheme)
    with native_logs(), no_retracing_warnings():
        check = None
        if verify is not False:
            check = SelfCheck(reference, scheme, calibration_data if verify is True else verify)
        del model, reference
        release_memory()
        content: bytes | bytearray
        if isinstance(plan, IntegerPlan):
            content = write_integer_file(flat, plan, ranges)
        else:
            rows = {} if plan is None else plan.rows
            ready = [_with_dense_kernels(flat, rows)]
            del flat, plan
            content = _converted(ready, scheme, rows, ranges, batch_size)
        release = min_runtime(read_graph(content))
        runtime = None if release is None else f"TensorFlow Lite {release}"
        front = metadata_front(content, ENTRY, with_runtime(description, runtime))
        with replacing(path) as partial:
            with open(partial, "wb") as file:
                file.writelines([front, content])
            del front, content
            if check is not None:
                check.check(partial, reference_again)
    return path


def _converted(
    ready: list[keras.Model], scheme: Scheme, rows: dict[str, Row], ranges: dict, batch_size: int
) -> bytes | bytearray:
    """Return the file that TensorFlow's converter makes of a float model, quantized as the rows of its plan say.

    The model is the only entry of a list, from which it is taken, so that it can be released while it is converted.
    """
    flat = ready.pop()
    neighbors, outputs = neighbors_of(flat), output_layers(flat)
    with tempfile.TemporaryDirectory() as folder:
        if scheme.weights == "float16":  # The converter rounds the weights itself, so it needs them.
            saved = _saved(prepared(flat, bool(ranges), None), folder, batch_size)
            del flat
            content = _convert(saved, half_weights=True)
        else:
            placeholders = KernelPlaceholders(folder)
            model = prepared(flat, bool(ranges), placeholders)
            del flat
            file = Path(folder) / "converted.tflite"
            file.write_bytes(_convert(_saved(model, folder, batch_size)))
            if missing := placeholders.fill(file):
                placeholders.restore(model, missing)
                file.write_bytes(_convert(_saved(model, folder, batch_size)))
                missing = placeholders.fill(file)
                assert not missing, missing
            release_memory()
            content = file.read_bytes()
    return quantize_file(content, rows, ranges, neighbors, outputs) if rows else content


def _planned(model, precision, overrides, calibration_data):
    """Return what to write.

    Returns:
        The scheme, the model that the file must agree with, the float model to convert, its plan (None if all stays in
        float), and the ranges.
    """
    if not is_quantized(model):
        scheme = find_scheme(precision or "float32", overrides)
        if scheme.needs_ranges:
            model = quantize_aware(model, scheme=scheme, calibration_data=calibration_data)
            return _with_own_plan(model)
        flat = fuse(model)
        scheme.check_overrides(layer.name for layer in flat.layers)
        return scheme, model, flat, Plan(flat, scheme) if scheme.makes_integers else None, {}
    trained = scheme_of(model)
    scheme = trained if precision is None else find_scheme(precision)
    if scheme.name == trained.name and not overrides:
        return _with_own_plan(model)
    if scheme.needs_ranges or overrides:
        raise ValueError(
            f"The model was quantized with {trained.name!r} and cannot be exported as {scheme.name!r}"
            f"{' with overrides' if overrides else ''}; quantize the float model again."
        )
    flat = float_model(model, kernels_on_grid=False)
    return scheme, flat, flat, Plan(flat, scheme) if scheme.makes_integers else None, {}


def _with_own_plan(quantized):
    flat = float_model(quantized, kernels_on_grid=True)
    scheme = scheme_of(quantized)
    return scheme, quantized, flat, plan_of(flat, scheme), ranges_of(quantized)


def _with_dense_kernels(flat: keras.Model, rows: dict[str, Row]) -> keras.Model:
    """Return a model in which int8 depthwise convolutions with a large kernel and few channels are dense convolutions.

    Their kernels are zero off the diagonal, so they compute the same, with the same range for each output channel. The
    CPU delegate has no fast kernel for more than 25 taps, and is five times faster this way (7 x 7, 16 channels).
    """

    def is_slow(layer):
        if not isinstance(layer, keras.layers.DepthwiseConv2D) or rows[layer.name].activations != "int8":
            return False
        height, width, channels, multiplier = layer.kernel.shape
        return height * width > MAX_TAPS and channels <= FEW_CHANNELS and multiplier == 1

    slow = {layer.name for layer in flat.layers if rows and is_slow(layer)}
    if not slow:
        return flat
    graph = Graph(flat)
    for node in graph.nodes:
        if node.name not in slow:
            continue
        channels = node.weights["kernel"].shape[2]
        node.kind = keras.layers.Conv2D
        kept = ("strides", "padding", "dilation_rate", "use_bias", "activation", "kernel_size", "trainable", "dtype")
        node.config = {"filters": channels, **{name: node.config[name] for name in kept}}
        node.weights["kernel"] = node.weights["kernel"] * np.eye(channels, dtype="float32")
    return graph.build()


def _saved(model: keras.Model, folder: str, batch_size: int) -> str:
    """Write a prepared model as a SavedModel to a new folder in a folder, and return the new folder."""
    saved = tempfile.mkdtemp(dir=folder)
    save(model, saved, batch_size)
    return saved


def _convert(saved: str, half_weights: bool = False) -> bytes:
    """Return the float TFLite file of a SavedModel."""
    release_memory()  # Copies made above would stay in memory next to the converter's.
    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    # Neither of these is read, and each costs a copy of the weights: metadata about the conversion, and the model as
    # TensorFlow has loaded it, which the converter loads from the folder again.
    converter.exclude_conversion_metadata = True
    converter._trackable_obj = None
    gc.collect()
    if half_weights:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()
