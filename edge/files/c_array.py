"""Write a file as an array in C, for programs without a file system."""

from __future__ import annotations

import os
import re
from pathlib import Path

from keras_vit.utils.files import replacing

_PER_LINE = 20


def write_c_array(file: str | os.PathLike, header: str | os.PathLike, name: str | None = None) -> str:
    """Write the content of a file as a header for C and C++ with an array of bytes, aligned to 16 bytes.

    The header defines `NAME`, the array, and `NAME_size`, the number of its bytes. Include it in one source file.

    Args:
        file: The file, such as "model.tflite".
        header: The header to write, such as "model.h".
        name: The name of the array. The default is the name of the file without its ending, with "_" for what a name in
            C cannot have.

    Returns:
        The name of the array.

    Raises:
        ValueError: `name` is not a name in C, or `header` does not end in ".h".
        OSError: A file cannot be read or written.
    """
    path = Path(file)
    if name is None:
        name = re.sub(r"^(?=\d)", "_", re.sub(r"\W", "_", path.stem, flags=re.ASCII))
    if not re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII):
        raise ValueError(f"The name of a C array has letters, digits and underscores only; received {name!r}.")
    if Path(header).suffix not in (".h", ".hpp"):
        raise ValueError(f"The name of a header ends in .h or .hpp; received {os.fspath(header)!r}.")
    content = path.read_bytes()
    with replacing(header) as partial, open(partial, "w", encoding="ascii", newline="\n") as out:
        out.write(
            f"/* {len(content)} bytes of {ascii(path.name)[1:-1]} */\n"
            "#pragma once\n\n"
            "#ifdef __cplusplus\n"
            f"alignas(16) static const unsigned char {name}[] = {{\n"
            "#else\n"
            f"_Alignas(16) static const unsigned char {name}[] = {{\n"
            "#endif\n"
        )
        for first in range(0, len(content), _PER_LINE):
            out.write("  " + ",".join(map(str, content[first : first + _PER_LINE])) + ",\n")
        out.write(f"}};\nstatic const unsigned int {name}_size = {len(content)};\n")
    return name
