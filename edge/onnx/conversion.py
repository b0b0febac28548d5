"""Convert a Keras model to an ONNX file."""

from __future__ import annotations

import os
from typing import Any

import keras

import keras_vit
from keras_vit.edge.onnx.builder import OnnxBuilder
from keras_vit.edge.onnx.program import Program, Tensor, Value
from keras_vit.edge.onnx.rounding import round_for_each_user, skip_rounding_before_softmax
from keras_vit.edge.onnx.trtexec import trtexec_commands
from keras_vit.edge.onnx.windows import move_windows_to_the_batch
from keras_vit.edge.onnx.writers import check_no_lambda, write_call
from keras_vit.edge.quantization.quantize import is_quantized, quantize_aware, without_ranges
from keras_vit.graph.fusion import fuse
from keras_vit.graph.reading import calls_before
from keras_vit.utils.files import replacing
from keras_vit.utils.missing import needs

PRECISIONS = ("float32", "float16", "hybrid_int8")
OPSETS = (17, 18, 19, 20)
_PROTOBUF_LIMIT = 2**31


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    precision: str | None = None,
    *,
    calibration_data: Any = None,
    opset: int | None = None,
    batch_size: int = 1,
) -> str:
    """Write a model to an .onnx file with static shapes.

    Args:
        model: A functional float model, or a model returned by `quantize_aware`. It is not changed.
        path: The file to write. Its name ends in ".onnx".
        precision: "float32"; "float16", with normalization, softmax and linear attention in float32; or "hybrid_int8".
            The default is "hybrid_int8" for a quantized model and "float32" for a float model.
        calibration_data: Images that set the ranges of a float model for "hybrid_int8", as `quantize_aware` takes them.
        opset: The version of the operators, 17 to 20. The default is 20.
        batch_size: The number of images that the file takes at once.

    Returns:
        The path as a string.

    Raises:
        ValueError: An argument has no such value, the model's input has a free size, a layer has no writer, or the
            weights are too large for one file.
        ImportError: onnx or onnx-ir is not installed. The message gives the pip command.
    """
    path = os.fspath(path)
    quantized = is_quantized(model)
    precision = precision or ("hybrid_int8" if quantized else "float32")
    if precision not in PRECISIONS:
        raise ValueError(f"The precision of an ONNX file must be one of {PRECISIONS}; received {precision!r}.")
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
    output_names = model.output_names
    if precision == "hybrid_int8":
        if not quantized:
            if calibration_data is None:
                raise ValueError(
                    "hybrid_int8 needs the ranges of the activations: pass calibration_data (images as in training), "
                    "or a model from keras_vit.edge.quantize_aware."
                )
            model = quantize_aware(model, calibration_data=calibration_data)
        flat = model
    else:
        flat = without_ranges(model, kernels_on_grid=False) if quantized else fuse(model)
    program = program_of(flat, output_names, opset, batch_size)
    written = Emitter(program, opset, half=precision == "float16").model()
    written.producer_name, written.producer_version = "keras_vit", keras_vit.__version__
    written.metadata_props.update(_metadata(os.path.basename(path), precision, opset))
    constants = [value.const_value for value in written.graph.initializers.values()]
    size = sum(int(constant.nbytes) for constant in constants if constant is not None)
    if size >= _PROTOBUF_LIMIT:
        raise ValueError(
            f"The weights of {model.name!r} take {size / 1e9:.1f} GB in {precision}, more than the 2 GB that an ONNX "
            "file can hold; export it in float16 or hybrid_int8."
        )
    proto = onnx_ir.to_proto(written)
    onnx.checker.check_model(proto, full_check=True)
    onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    with replacing(path) as partial:
        partial.write_bytes(proto.SerializeToString())
    return path


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
    build = OnnxBuilder(program, opset, batch_size)
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


def _metadata(file: str, precision: str, opset: int) -> dict[str, str]:
    return {
        "precision": precision,
        "opset": str(opset),
        "keras_vit": keras_vit.__version__,
        "keras": keras.__version__,
        **trtexec_commands(file, precision),
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
    from keras_vit.edge.onnx import family_layers, keras_layers, quantized_layers, vit_layers  # noqa: F401
