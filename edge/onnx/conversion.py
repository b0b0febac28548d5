"""Convert a Keras model to an ONNX file."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
from collections.abc import Mapping
from typing import Any

import keras

import keras_vit
from keras_vit.edge.conversion.description import describe, with_runtime
from keras_vit.edge.conversion.self_check import SelfCheck
from keras_vit.edge.files.description import ENTRY
from keras_vit.edge.onnx.builder import OnnxBuilder
from keras_vit.edge.onnx.program import Program, Tensor, Value
from keras_vit.edge.onnx.rounding import round_for_each_user, skip_rounding_before_softmax
from keras_vit.edge.onnx.trtexec import trtexec_commands
from keras_vit.edge.onnx.windows import move_windows_to_the_batch
from keras_vit.edge.onnx.writers import check_no_lambda, write_call
from keras_vit.edge.quantization.quantize import float_model, is_quantized, quantize_aware, scheme_of
from keras_vit.edge.quantization.schemes import SCHEMES, Scheme, find_scheme
from keras_vit.graph.fusion import fuse
from keras_vit.graph.reading import calls_before
from keras_vit.models.families import families as all_families
from keras_vit.utils.files import replacing_even_if_killed
from keras_vit.utils.missing import needs

# What ONNX files have of `keras_vit.edge.SCHEMES`.
PRECISIONS = ("float32", "float16", "int8_weights", "hybrid_int8", "symmetric_int8")
# The first release of onnxruntime that knows each version of the operators, and the format of files for it.
_FIRST_RUNTIMES = {17: "1.12", 18: "1.14", 19: "1.16", 20: "1.17"}
OPSETS = tuple(_FIRST_RUNTIMES)
_PROTOBUF_LIMIT = 2**31


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    precision: str | Scheme | None = None,
    *,
    calibration_data: Any = None,
    overrides: Mapping[str, str] | None = None,
    opset: int | None = None,
    batch_size: int = 1,
    verify: Any = True,
) -> str:
    """Write a model to an .onnx file with static shapes.

    Args:
        model: A functional float model, or a model returned by `quantize_aware`. It is not changed.
        path: The file to write. Its name ends in ".onnx".
        precision: "float32"; "float16", with normalization, softmax and linear attention in float32; "int8_weights";
            "hybrid_int8" or "symmetric_int8", which are the same for a float model: ranges are symmetric, as TensorRT
            demands; or a scheme of these. The default is the scheme of a quantized model, and "float32" for a float
            model.
        calibration_data: Images that set the ranges of a float model for "hybrid_int8", as `quantize_aware` takes them.
        overrides: For a float model, from patterns of layer names to the scheme for these layers.
        opset: The version of the operators, 17 to 20. The default is 20.
        batch_size: The number of images that the file takes at once.
        verify: What the file and the model are compared on, as `keras_vit.edge.export` takes it.

    Returns:
        The path as a string.

    Raises:
        ValueError: An argument has no such value, the model's input has a free size, a layer has no writer, or the
            weights are too large for one file.
        ImportError: onnx or onnx-ir is not installed. The message gives the pip command.
    """
    path = os.fspath(path)
    opset = OPSETS[-1] if opset is None else opset
    if opset not in OPSETS:
        raise ValueError(
            f"opset must be from {OPSETS[0]}, the first with LayerNormalization, to {OPSETS[-1]}, the last that "
            f"TensorRT 10 reads; received {opset!r}."
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; received {batch_size}.")
    with needs("onnx and onnx-ir", "exporting ONNX files", "onnx"):
        import onnx
        import onnx_ir

        from keras_vit.edge.onnx.emission import Emitter
    check_no_lambda(model)
    scheme, flat = _prepared(model, precision, overrides, calibration_data)
    reference = flat if scheme.makes_integers or is_quantized(model) else model
    check = None
    if verify is not False:
        check = SelfCheck(reference, scheme, calibration_data if verify is True else verify)
    program = program_of(flat, model.output_names, opset, batch_size)
    written = Emitter(program, opset, half=scheme.weights == "float16").model()
    written.producer_name, written.producer_version = "keras_vit", keras_vit.__version__
    written.metadata_props.update(_metadata(os.path.basename(path), scheme, opset))
    runtime = f"onnxruntime {_FIRST_RUNTIMES[opset]}"
    written.metadata_props[ENTRY] = with_runtime(describe(model, scheme), runtime).decode()
    constants = [value.const_value for value in written.graph.initializers.values()]
    size = sum(int(constant.nbytes) for constant in constants if constant is not None)
    if size >= _PROTOBUF_LIMIT:
        raise ValueError(
            f"The weights of {model.name!r} take {size / 1e9:.1f} GB in {scheme.name}, more than the 2 GB that an ONNX "
            "file can hold; export it in float16 or hybrid_int8."
        )
    proto = onnx_ir.to_proto(written)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    with replacing_even_if_killed(path) as partial:
        partial.write_bytes(proto.SerializeToString())
        if check is not None:
            check.check(partial, lambda: reference)
    return path


def _prepared(model, precision, overrides, calibration_data):
    """Return the scheme of a file, and the flat model to write: with roundings, if the scheme makes integers."""
    if not is_quantized(model):
        scheme = dataclasses.replace(_checked(find_scheme(precision or "float32", overrides)), symmetric=True)
        if scheme.makes_integers:
            return scheme, quantize_aware(model, scheme=scheme, calibration_data=calibration_data)
        flat = fuse(model)
        scheme.check_overrides(layer.name for layer in flat.layers)
        return scheme, flat
    trained = scheme_of(model)
    scheme = _checked(trained if precision is None else find_scheme(precision))
    if scheme.name == trained.name and not overrides:
        return trained, model
    if scheme.makes_integers or overrides:
        raise ValueError(
            f"The model was quantized with {trained.name!r} and cannot be exported as {scheme.name!r}"
            f"{' with overrides' if overrides else ''}; quantize the float model again."
        )
    return scheme, float_model(model, kernels_on_grid=False)


def _checked(scheme: Scheme) -> Scheme:
    """Return a scheme, if ONNX files have it and all schemes of its overrides."""
    for each in (scheme, *(SCHEMES[name] for name in scheme.overrides.values())):
        if each.activations == "dynamic_int8" or each.weights == "int4" or each.covers_all:
            raise ValueError(f"The precision of an ONNX file must be one of {PRECISIONS}; received {each.name!r}.")
    return scheme


def program_of(flat: keras.Model, output_names: list[str], opset: int, batch_size: int) -> Program:
    """Return a flat model as a program.

    Args:
        flat: What `keras_vit.fuse` or `quantize_aware` returned.
        output_names: The names of its outputs.
        opset: The version of the operators.
        batch_size: The number of images.

    Raises:
        ValueError: An input has a free size, or a layer has no writer.
    """
    _register_writers()
    program = Program(flat.name)
    build = OnnxBuilder(program, opset, batch_size, rounded=is_quantized(flat))
    tensors: dict[int, Tensor] = {}
    for tensor in flat.inputs:
        name = "image" if len(flat.inputs) == 1 else tensor.name
        shape = (batch_size, *tensor.shape[1:])
        if None in shape:
            raise ValueError(
                f"The model {flat.name!r} takes images of any size, {tuple(tensor.shape)}; ONNX files have static "
                "shapes, so build it with a fixed input_shape."
            )
        program.inputs[name] = Value(shape, name, full=True)
        tensors[id(tensor)] = Tensor(program.inputs[name])
    for call in calls_before(flat.outputs):
        if call.is_input:
            continue
        args, kwargs = _with_tensors((call.arguments.args, call.arguments.kwargs), tensors)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
        given = write_call(build, call.operation, args, kwargs)
        for keras_tensor, tensor in zip(call.output_tensors, given, strict=True):
            _check_shape(call.operation, keras_tensor.shape, tensor.shape)
            tensors[id(keras_tensor)] = tensor
    for name, tensor in zip(output_names, flat.outputs, strict=True):
        with build.layer(name):
            program.outputs[name] = Tensor(build.as_value(tensors[id(tensor)]))
    program.remove_unused()
    move_windows_to_the_batch(program)
    skip_rounding_before_softmax(program)
    round_for_each_user(program)
    return program


def _metadata(file: str, scheme: Scheme, opset: int) -> dict[str, str]:
    return {
        "precision": scheme.name,
        "opset": str(opset),
        "keras_vit": keras_vit.__version__,
        "keras": keras.__version__,
        **trtexec_commands(file, scheme),
    }


def _with_tensors(arguments, tensors):
    """Return the arguments of a call with tensors in place of Keras tensors."""
    return keras.tree.map_structure(
        lambda leaf: tensors[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf, arguments
    )


def _check_shape(operation, expected, shape):
    """Check the shape that a writer gave."""
    same = len(expected) == len(shape) and all(
        size in (None, given) for size, given in zip(expected[1:], shape[1:], strict=True)
    )
    if not same:
        raise ValueError(
            f"The ONNX writer of {operation.name!r}, a layer of class {type(operation).__name__}, gave the shape "
            f"{tuple(shape)} where the layer gives {tuple(expected)}."
        )


def _register_writers() -> None:
    """Import the modules that hold the writers."""
    from keras_vit.edge.onnx import families, keras_layers, quantized_layers, vit_layers  # noqa: F401

    with_writers = {name for _, name, _ in pkgutil.iter_modules(families.__path__)}
    for family in with_writers.intersection(all_families()):
        importlib.import_module(f"{families.__name__}.{family}")
