"""Write files atomically, and load models with clear error messages."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file atomically: a reader sees the old file or the new file, never a part.

    Missing folders are created. If the block raises, `path` keeps its content.

    Args:
        path: The file to write or replace.

    Yields:
        The path to write to. It is in the same folder and is moved to `path` at the end of the block. Its name is
        always the same, so the next write overwrites what a killed process left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_even_if_killed(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file as `replacing` does, and leave nothing beside it even if the process is killed in the block.

    On Linux, most file systems can write a file that has no name yet. Elsewhere, this is the same as `replacing`.

    Args:
        path: The file to write or replace.

    Yields:
        The path to write to, which other processes can read. The block must open it, and not move another file there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = None
    with contextlib.suppress(AttributeError, OSError):
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
    if descriptor is None:
        with replacing(path) as partial:
            yield partial
        return
    unnamed = f"/proc/{os.getpid()}/fd/{descriptor}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            named = Path(folder, path.name)  # Programs choose a file's format by the end of its name.
            named.symlink_to(unnamed)
            yield named
        os.fsync(descriptor)
        with replacing(path) as partial:
            partial.unlink(missing_ok=True)
            # With a descriptor of a folder, Python follows the link; the path is absolute, so it is not used.
            os.link(unnamed, partial, src_dir_fd=descriptor)
    finally:
        os.close(descriptor)


def saved_model(path: str | os.PathLike) -> keras.Model:
    """Load the model of a .keras file, without its optimizer.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or has layers that are not registered with Keras.
    """
    import keras  # Takes seconds, and most users of this module do not need it.

    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no model file {os.fspath(path)!r}.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged or not a Keras model: {error}") from error
