"""Convert a Keras model to a TensorFlow Lite (LiteRT) or ONNX file."""

import gc
import os
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vit.edge.conversion.description import describe, with_runtime
from keras_vit.edge.conversion.int8_file import quantize_file
from keras_vit.edge.conversion.integer_file import write_integer_file
from keras_vit.edge.conversion.kernel_placeholders import KernelPlaceholders
from keras_vit.edge.conversion.memory import release_memory
from keras_vit.edge.conversion.neighbors import Neighbors, neighbors_of, output_layers
from keras_vit.edge.conversion.saving import fit_biases, prepared, save, use_dense_kernels
from keras_vit.edge.conversion.self_check import SelfCheck
from keras_vit.edge.files.description import ENTRY
from keras_vit.edge.files.op_versions import min_runtime
from keras_vit.edge.files.tflite_graph import read_graph
from keras_vit.edge.files.tflite_metadata import metadata_front
from keras_vit.edge.quantization.integer_plan import IntegerPlan
from keras_vit.edge.quantization.plan import Plan, Row
from keras_vit.edge.quantization.quantize import (
    float_graph,
    float_model,
    is_quantized,
    plan_of,
    quantize_aware,
    ranges_of,
    scheme_of,
)
from keras_vit.edge.quantization.schemes import Scheme, find_scheme
from keras_vit.graph.flat_graph import Graph
from keras_vit.graph.fusion import fuse
from keras_vit.utils.files import replacing_even_if_killed
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
        # Taken out of the list by what uses it, so that it can be released meanwhile.
        graph = [float_graph(reference, kernels_on_grid=True) if is_quantized(reference) else Graph(flat)]
        del model, reference
        content: bytes | bytearray
        if isinstance(plan, IntegerPlan):
            del flat
            content = write_integer_file(graph.pop().build(), plan, ranges)
        elif plan is None:
            del flat
            content = _float_file(graph, scheme, batch_size)
        else:
            neighbors, outputs, rows = neighbors_of(flat), output_layers(flat), plan.rows
            del flat, plan
            content = _int8_file(graph, rows, ranges, neighbors, outputs, batch_size)
        release = min_runtime(read_graph(content))
        runtime = None if release is None else f"TensorFlow Lite {release}"
        front = metadata_front(content, ENTRY, with_runtime(description, runtime))
        with replacing_even_if_killed(path) as partial:
            with open(partial, "wb") as file:
                file.writelines([front, content])
            del front, content
            if check is not None:
                check.check(partial, reference_again)
    return path


def _float_file(graph: list[Graph], scheme: Scheme, batch_size: int) -> bytes:
    """Return the float file that TensorFlow's converter makes of a graph, the only entry of a list."""
    with tempfile.TemporaryDirectory() as folder:
        save(prepared(graph.pop(), keep_inputs=False), folder, batch_size)
        converter = _converter(folder)
        if scheme.weights == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def _int8_file(
    graph: list[Graph],
    rows: dict[str, Row],
    ranges: dict[str, tuple[float, float]],
    neighbors: dict[str, Neighbors],
    outputs: dict[str, str],
    batch_size: int,
) -> bytearray:
    """Return the file of a graph, the only entry of a list, quantized as the rows of its plan say.

    TensorFlow's converter does not get the large kernels, of which it would make several copies.
    """
    with tempfile.TemporaryDirectory() as folder:
        kernels = KernelPlaceholders(folder)
        fit_biases(graph[0], rows, ranges)
        use_dense_kernels(graph[0], rows)
        model = prepared(graph.pop(), keep_inputs=bool(ranges), placeholders=kernels)
        converted = kernels.fill(_converted(model, batch_size), outputs)
        if kernels.missing:  # The converter has computed with some of them.
            kernels.restore(model)
            converted = kernels.fill(_converted(model, batch_size), outputs)
        del model
        release_memory()
        return quantize_file(converted, rows, ranges, neighbors, outputs)


def _converted(model: keras.Model, batch_size: int) -> bytes:
    """Return the float file that TensorFlow's converter makes of a prepared model, with its constants at the end."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder, batch_size)
        converter = _converter(folder)
        converter._experimental_use_buffer_offset = True  # Otherwise, the converter holds twice as many copies of them.
        return converter.convert()


def _converter(saved_model: str) -> tf.lite.TFLiteConverter:
    release_memory()  # Copies made before would stay in memory next to the converter's.
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    # Neither of these is read, and each costs a copy of the weights: metadata about the conversion, and the model as
    # TensorFlow has loaded it, which the converter loads from the folder again.
    converter.exclude_conversion_metadata = True
    converter._trackable_obj = None
    gc.collect()
    return converter


def _planned(model, precision, overrides, calibration_data):
    """Return what to write.

    Returns:
        The scheme, the model that the file must agree with, its float model with kernels that are not rounded, the plan
        (None if all stays in float), and the ranges.
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
    flat = float_model(quantized, kernels_on_grid=False)
    scheme = scheme_of(quantized)
    return scheme, quantized, flat, plan_of(flat, scheme), ranges_of(quantized)
