"""What several commands share: reading their files, and printing their results and their progress.

Keras and NumPy are imported inside the functions, because help texts need neither.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import numpy as np

IMAGES_HELP = (
    "a folder of pictures, of which up to 256 are used, or a picture, prepared as the model takes them; or a .npy file "
    "with images of shape (images, height, width, channels) that are already prepared"
)
_MOST_PICTURES = 256
MODEL_HELP = "a .keras file, or a name that `keras-vit list` prints (built with random weights)"


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--json` to the arguments of a command."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def print_result(result, as_json: bool) -> None:
    """Print an object that has a `to_dict` method, as text or as JSON."""
    print_json(result.to_dict()) if as_json else print(result)


def print_json(value) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2))


def load_array(path: str) -> np.ndarray:
    """Return the array of a .npy file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file holds anything other than one array of numbers.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path!r} is not a .npy file with an array of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path!r} is an archive of several arrays; pass a .npy file with a single array.")
    return array


def load_images(path: str, model: keras.Model) -> np.ndarray:
    """Return images for a model: the array of a .npy file, or pictures prepared as the model takes them.

    Args:
        path: A .npy file, a picture, or a folder. If a folder has more than 256 pictures, 256 of them are used, evenly
            spread over the sorted paths.
        model: The model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the folder has no pictures, or a file is damaged.
    """
    if path.endswith(".npy"):
        return load_array(path)
    import numpy as np

    from keras_vit.models.preprocessing import preprocess_input
    from keras_vit.utils.pictures import pictures_in

    pictures = pictures_in(path) if os.path.isdir(path) else [path]
    if not pictures:
        raise ValueError(f"There are no pictures in {path!r}.")
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), _MOST_PICTURES)).astype(int)
    return preprocess_input([pictures[index] for index in chosen], model)


def load_images_for_file(images: str, file: str) -> np.ndarray:
    """Return images for a .tflite or .onnx file: the array of a .npy file, or pictures prepared as the file says.

    Args:
        images: A .npy file, a picture, or a folder, as `load_images` takes them.
        file: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file does not say how it takes pictures, or as `load_images`.
    """
    if images.endswith(".npy"):
        return load_array(images)
    import keras

    from keras_vit import edge
    from keras_vit.layers import Preprocessing

    info = edge.file_info(file)
    said = info.description and info.description.preprocessing
    if said is None:
        raise ValueError(
            f"{file} does not say how it takes pictures: pass a .npy file of prepared images, or a .keras file as the "
            f"reference; received {images!r}."
        )
    normalizes = said.mean is None or said.std is None
    facts = Preprocessing(
        0.0 if said.mean is None else said.mean,
        1.0 if said.std is None else said.std,
        said.crop_fraction,
        said.interpolation,
        normalize=normalizes,
    )
    return load_images(images, keras.Sequential([keras.Input(info.inputs[0].shape[1:]), facts]))


def is_exported(path: str) -> bool:
    """Return whether a path is that of a .tflite or .onnx file."""
    return path.endswith((".tflite", ".onnx"))


def load_model(name_or_path: str) -> keras.Model:
    """Return the model of a .keras file, or build a model of the registry with random weights."""
    import keras_vit

    if not name_or_path.endswith(".keras"):
        return keras_vit.create_model(name_or_path)
    from keras_vit.utils.files import saved_model

    return saved_model(name_or_path)


@contextlib.contextmanager
def status(text: str, *, show: bool = True) -> Iterator[Callable[[str], None]]:
    """Show a line on the terminal while the block runs, and remove it afterwards.

    Args:
        text: What the command is doing.
        show: False for a command that prints JSON. Nothing is shown either if standard output is not a terminal.

    Yields:
        A function that replaces the text.
    """
    show = show and sys.stdout.isatty()

    def write(text: str) -> None:
        if show:
            print(f"\r{text} ...\x1b[K", end="", flush=True)

    write(text)
    try:
        yield write
    finally:
        if show:
            print("\r\x1b[K", end="", flush=True)
