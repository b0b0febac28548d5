"""The commands that build a TensorRT engine from an ONNX file."""

from __future__ import annotations

import os

# The prefix of their names in the metadata of a file, before TensorRT's major version.
_PREFIX = "trtexec_"


def trtexec_commands(file: str, precision: str) -> dict[str, str]:
    """Return the command for each major version of TensorRT as metadata of a file.

    Version 10 (JetPack 6) chooses among float32 and the precisions that it is allowed. Version 11 (JetPack 7) always
    computes in the types that the file says.

    Args:
        file: The name of the file.
        precision: The precision of the file.
    """
    command = f"trtexec --onnx={file} --saveEngine={os.path.splitext(file)[0]}.engine"
    flags = {"float32": "", "float16": " --fp16", "hybrid_int8": " --fp16 --int8"}[precision]
    return {f"{_PREFIX}10": command + flags, f"{_PREFIX}11": command}


def commands_in(path: str) -> dict[str, str]:
    """Return the commands in the metadata of a file by TensorRT's major version."""
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return {key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)}
