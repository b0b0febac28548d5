"""Files: written so that a reader meets the old one or the new one, never a part; models read with a word on errors."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import keras


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and moves what was written there to `path`. Missing folders are made.

    If the block raises, `path` keeps what it held. The name is fixed, so what a killed process left behind is
    overwritten by the next write instead of piling up.
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


def saved_model(path: str | os.PathLike) -> keras.Model:
    """The model of a .keras file, without its optimizer.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or has layers that nobody has registered.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no model file {os.fspath(path)!r}.")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(f"{os.fspath(path)!r} is damaged or no Keras model: {error}") from error
