"""The commands that build a TensorRT engine from an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping

from keras_vit.edge.quantization.schemes import Scheme

# The prefix of their names in the metadata of a file, before TensorRT's major version.
_PREFIX = "trtexec_"


def trtexec_commands(file: str, scheme: Scheme) -> dict[str, str]:
    """Return the command for each major version of TensorRT as metadata of a file.

    Version 10 (JetPack 6) chooses among float32 and the precisions that it is allowed. Version 11 (JetPack 7) always
    computes in the types that the file says.

    Args:
        file: The name of the file.
        scheme: The scheme of the file.
    """
    command = f"trtexec --onnx={file} --saveEngine={os.path.splitext(file)[0]}.engine"
    flags = " --fp16 --int8" if scheme.makes_integers else " --fp16" if scheme.weights == "float16" else ""
    return {f"{_PREFIX}10": command + flags, f"{_PREFIX}11": command}


def commands_in(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the commands in the metadata of a file by TensorRT's major version."""
    return {key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)}
