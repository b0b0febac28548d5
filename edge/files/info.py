"""What a .tflite or .onnx file takes and gives, and what it says about itself."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from keras_vit.edge.devices.runner import check_file
from keras_vit.edge.files.description import ENTRY, Description
from keras_vit.edge.files.op_versions import min_runtime
from keras_vit.edge.files.tflite_graph import Graph, Tensor, read_graph
from keras_vit.edge.files.tflite_metadata import read_metadata
from keras_vit.edge.onnx.trtexec import commands_in
from keras_vit.utils.missing import needs
from keras_vit.utils.tables import table

_SUFFIXES = (".tflite", ".onnx")
_MOST_CLASSES = 5  # That a printed table shows.


@dataclasses.dataclass(frozen=True)
class FileTensor:
    """An input or output of a file.

    Attributes:
        name: Its name in the signature of the file, or else in the graph.
        shape: Its shape, with -1 for a size that is chosen at run time.
        dtype: Its type, such as "float32" or "int8".
        scale, zero_point: For integers that stand for real numbers: `scale * (integer - zero_point)`; else None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """What is known of a file. It prints as a table.

    Attributes:
        file: The file.
        format: "tflite" or "onnx".
        size_bytes: Its size.
        inputs, outputs: What it takes and gives, in the order of its signature.
        min_runtime: The oldest runtime that has all operators of the file; None if it is not known.
        description: What the file says about its model; None if `keras_vit.edge.export` did not write it.
        commands: For an .onnx file, the command that builds a TensorRT engine by TensorRT's major version.
    """

    file: str
    format: str
    size_bytes: int
    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]
    min_runtime: str | None
    description: Description | None
    commands: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        values = dataclasses.asdict(self)
        if self.description is not None:
            values["description"].pop("min_runtime")
            values["description"]["precision"] = self.description.precision
        return values

    def __str__(self) -> str:
        rows = [("size", f"{self.size_bytes / 1e6:.2f} MB")]
        rows += [(f"input {tensor.name}", _described(tensor)) for tensor in self.inputs]
        rows += [(f"output {tensor.name}", _described(tensor)) for tensor in self.outputs]
        rows.append(("runs on", f"{self.min_runtime} or newer" if self.min_runtime else "(unknown)"))
        said = self.description
        if said is not None:
            rows += [("model", said.model), ("precision", said.precision)]
            rows.append(("images", str(said.preprocessing or "(unknown)")))
            if said.preprocessing is not None:
                fraction, interpolation = said.preprocessing.crop_fraction, said.preprocessing.interpolation
                rows.append(("resizing", f"{interpolation}, the middle {fraction:.1%} of the shorter side"))
            rows.append(("classes", _some(said.class_names)))
            rows.append(("written by", ", ".join(f"{name} {version}" for name, version in said.versions.items())))
            rows.append(("weights", f"SHA-256 {said.weights_sha256}"))
        rows += [(f"TensorRT {version}", command) for version, command in self.commands.items()]
        return table(("info", os.path.basename(self.file)), rows)


def file_info(file: str | os.PathLike) -> FileInfo:
    """Return what a .tflite or .onnx file takes and gives, and what it says about itself. It is not run.

    Args:
        file: The file.

    Raises:
        ValueError: The file is empty, truncated, corrupt, or of another kind.
        OSError: The file is missing or cannot be read.
        ImportError: A package that reads the format is not installed. The message gives the pip command.
    """
    path = os.fspath(file)
    if not path.endswith(_SUFFIXES):
        raise ValueError(f"The name of the file must end in {' or '.join(_SUFFIXES)}; received {path!r}.")
    return _onnx_info(path) if path.endswith(".onnx") else _tflite_info(path)


def read_description(file: str | os.PathLike) -> Description | None:
    """Return what a valid file says about its model; None if `keras_vit.edge.export` did not write it."""
    path = os.fspath(file)
    if path.endswith(".onnx"):
        text: str | bytes | None = _properties(_onnx_model(path)).get(ENTRY)
    else:
        text = read_metadata(Path(path).read_bytes()).get(ENTRY)
    return None if text is None else Description.from_json(text)


def _tflite_info(path: str) -> FileInfo:
    check_file(path)
    content = Path(path).read_bytes()
    graph = read_graph(content)
    release = min_runtime(graph)
    text = read_metadata(content).get(ENTRY)
    return FileInfo(
        file=path,
        format="tflite",
        size_bytes=len(content),
        inputs=tuple(_tflite_tensor(tensor, graph.input_names.get(tensor.index)) for tensor in graph.inputs),
        outputs=tuple(_tflite_tensor(tensor, name) for name, tensor in _outputs(graph)),
        min_runtime=None if release is None else f"TensorFlow Lite {release}",
        description=None if text is None else Description.from_json(text),
    )


def _outputs(graph: Graph) -> list[tuple[str | None, Tensor]]:
    return list(graph.signature.items()) or [(None, tensor) for tensor in graph.outputs]


def _tflite_tensor(tensor: Tensor, name: str | None) -> FileTensor:
    grid = (tensor.scales[0], tensor.zero_points[0]) if tensor.scales else (None, None)
    return FileTensor(name or tensor.name, tensor.shape, tensor.dtype.lower(), *grid)


def _onnx_info(path: str) -> FileInfo:
    model = _onnx_model(path)
    said = _properties(model)
    text = said.get(ENTRY)
    description = None if text is None else Description.from_json(text)
    return FileInfo(
        file=path,
        format="onnx",
        size_bytes=os.path.getsize(path),
        inputs=tuple(map(_onnx_tensor, model.graph.input)),
        outputs=tuple(map(_onnx_tensor, model.graph.output)),
        min_runtime=None if description is None else description.min_runtime,
        description=description,
        commands=commands_in(said),
    )


def _onnx_model(path: str) -> Any:
    """Return the content of an ONNX file.

    Raises:
        ValueError: The file is empty, truncated, corrupt, or not an ONNX file.
        OSError: The file is missing or cannot be read.
    """
    with needs("onnx", "reading ONNX files", "onnx"):
        import onnx
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise type(error)(f"{path} cannot be opened: {error.strerror}.") from None
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # The exception is protobuf's, which depends on its implementation.
        raise ValueError(f"{path} is truncated, corrupt or not an ONNX file: {error}") from error
    if not model.graph.output:
        raise ValueError(f"{path} is empty or not an ONNX file: it has no graph with outputs.")
    return model


def _properties(model: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _onnx_tensor(value: Any) -> FileTensor:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim)
    return FileTensor(value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name)


def _described(tensor: FileTensor) -> str:
    grid = f", {tensor.scale:.6g} * (integer - {tensor.zero_point})" if tensor.scale is not None else ""
    return f"{tensor.dtype} ({', '.join('any' if size == -1 else str(size) for size in tensor.shape)}){grid}"


def _some(names: tuple[str, ...] | None) -> str:
    if names is None:
        return "(no names)"
    shown = ", ".join(names[:_MOST_CLASSES])
    return f"{len(names)}: {shown}, ..." if len(names) > _MOST_CLASSES else f"{len(names)}: {shown}"
