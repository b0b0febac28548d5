"""Read weight files as plain arrays. Nothing here can run code that a file contains."""

import os
import zipfile

import numpy as np

_PICKLES = (".pth", ".pt", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib")


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a .safetensors or .npz file, by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is a pickle, of an unknown kind, truncated or corrupt.
    """
    path = os.fspath(path)
    if path.lower().endswith(_PICKLES):
        raise ValueError(_pickle_sentence(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no weights file {path!r}.")
    if path.lower().endswith(".safetensors"):
        return _read_safetensors(path)
    if path.lower().endswith(".npz"):
        return _read_npz(path)
    raise ValueError(
        f"{path!r} is not a supported weights file: pass a .safetensors, .npz, .weights.h5 or .keras file."
    )


def _read_safetensors(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path!r} is truncated or not a safetensors file: {error}.") from error


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: _from_bfloat16(file[name]) for name in file.files}
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise ValueError(f"{path!r} is truncated or not an .npz file: {error}") from error
        raise ValueError(
            f"{path!r} contains pickled objects and is refused, because unpickling runs code. Its owner can save plain "
            "arrays with numpy.savez(path, **{name: array.astype('float32')})."
        ) from error
    except (zipfile.BadZipFile, EOFError, OSError, KeyError) as error:
        raise ValueError(f"{path!r} is truncated or not an .npz file: {error}") from error


def _from_bfloat16(array):
    """Convert bfloat16 to float32. NumPy has no bfloat16, so it reads such an array as raw items of two bytes."""
    if array.dtype.kind != "V" or array.dtype.itemsize != 2:
        return array
    return (array.view("uint16").astype("uint32") << 16).view("float32")


def _pickle_sentence(path):
    target = os.path.splitext(os.path.basename(path))[0] + ".safetensors"
    return (
        f"{path!r} is a pickle and is refused, because unpickling runs code. If you trust its source, convert "
        "it to safetensors on a machine with PyTorch:\n"
        "    import torch, safetensors.torch\n"
        f"    state = torch.load({os.path.basename(path)!r}, map_location='cpu', weights_only=True)\n"
        "    state = state.get('model', state.get('state_dict', state))\n"
        f"    safetensors.torch.save_file({{k: v.contiguous() for k, v in state.items()}}, {target!r})"
    )
