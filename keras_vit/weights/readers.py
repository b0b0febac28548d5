"""Read weight files as plain arrays. Nothing here can run code that a file contains."""

import json
import os
import re
import zipfile

import numpy as np

from keras_vit.weights import keras_files
from keras_vit.weights.layouts import from_bfloat16

_PICKLES = (".pth", ".pt", ".bin", ".pkl", ".pickle", ".ckpt", ".joblib")
_INDEX = ".safetensors.index.json"
_READABLE = (".safetensors", ".npz", _INDEX, *keras_files.SUFFIXES)
# The files that are taken from a folder with several: what `save_pretrained` and `training.fit` write.
_PREFERRED = ("model.safetensors", "model.safetensors.index.json", "best.keras")
_SHARD = re.compile(r"(.*-)(\d{5})(-of-(\d{5})\.safetensors)")
_KERAS_SHARD = re.compile(r".*_\d{5}\.weights\.h5")


def weights_file(path: str) -> str:
    """Return the weights file in a folder, or the path itself if it is not a folder.

    Raises:
        ValueError: The folder has no weights file, or several.
    """
    if not os.path.isdir(path):
        return path
    names = sorted(name for name in os.listdir(path) if os.path.isfile(os.path.join(path, name)))
    found = [name for name in names if name.lower().endswith(_READABLE)]
    is_indexed = any(name.endswith((_INDEX, ".weights.json")) for name in found)
    found = [name for name in found if not _is_part(name, is_indexed)]
    preferred = [name for name in _PREFERRED if name in found]
    if preferred or len(found) == 1:
        return os.path.join(path, (preferred or found)[0])
    if found:
        raise ValueError(
            f"The folder {path!r} has {len(found)} weights files: {_some(found)}. Pass the path of one of them."
        )
    pickles = [name for name in names if name.lower().endswith(_PICKLES)]
    if pickles:
        raise ValueError(_pickle_sentence(os.path.join(path, pickles[0])))
    raise ValueError(
        f"The folder {path!r} has no weights file that can be read (.safetensors, .npz, .keras, .weights.h5): it has "
        f"{_some(names) or 'no files'}."
    )


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a weights file, by name.

    Args:
        path: A .safetensors file or one of its shards, the index of the shards, an .npz file, or a file that Keras
            wrote.

    Raises:
        FileNotFoundError: There is no such file, or a shard is missing.
        ValueError: The file is a pickle, of an unknown kind, truncated or corrupt.
    """
    if path.lower().endswith(_PICKLES):
        raise ValueError(_pickle_sentence(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no weights file {path!r}.")
    if path.lower().endswith(keras_files.SUFFIXES):
        return keras_files.read_keras(path)
    if path.lower().endswith(_INDEX):
        return _read_shards(path, _shards_of_index(path))
    if match := _SHARD.fullmatch(path):
        before, _, after, count = match.groups()
        return _read_shards(path, [f"{before}{number + 1:05}{after}" for number in range(int(count))])
    if path.lower().endswith(".safetensors"):
        return _read_safetensors(path)
    if path.lower().endswith(".npz"):
        return _read_npz(path)
    raise ValueError(
        f"{path!r} is not a supported weights file: pass a .safetensors, .npz, .weights.h5 or .keras file, the index "
        "of a sharded one (.safetensors.index.json), or a folder with one of them."
    )


def _is_part(name, is_indexed):
    """Whether another file stands for this shard: the index, or the first shard."""
    shard = _SHARD.fullmatch(name)
    if is_indexed:
        return shard is not None or _KERAS_SHARD.fullmatch(name) is not None
    return shard is not None and int(shard[2]) > 1


def _shards_of_index(path):
    try:
        with open(path, encoding="utf-8") as index:
            names = set(json.load(index)["weight_map"].values())
        # A shard is beside its index: an index from elsewhere cannot name other files.
        return [os.path.join(os.path.dirname(path), os.path.basename(name)) for name in sorted(names)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path!r} is truncated or not the index of a sharded safetensors file: {error!r}.") from error


def _read_shards(path, shards):
    missing = [os.path.basename(shard) for shard in shards if not os.path.isfile(shard)]
    if missing:
        raise FileNotFoundError(
            f"{path!r} is one file of {len(shards)} shards, of which {_some(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: put all shards in one folder."
        )
    return {name: array for shard in shards for name, array in _read_safetensors(shard).items()}


def _read_safetensors(path):
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: _tensor(file, name) for name in file.keys()}  # noqa: SIM118  (safe_open is not a dictionary)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path!r} is truncated or not a safetensors file: {error}.") from error


def _tensor(file, name):
    piece = file.get_slice(name)
    if piece.get_dtype().startswith(("F8_", "F6_", "F4")):
        # NumPy has no such type. Only the type and the shape matter, because quantized weights are refused.
        return np.broadcast_to(np.int8(0), piece.get_shape())
    return file.get_tensor(name)


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: from_bfloat16(file[name]) for name in file.files}
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise ValueError(f"{path!r} is truncated or not an .npz file: {error}") from error
        raise ValueError(
            f"{path!r} contains pickled objects and is refused, because unpickling runs code. Its owner can save plain "
            "arrays with numpy.savez(path, **{name: array.astype('float32')})."
        ) from error
    except (zipfile.BadZipFile, EOFError, OSError, KeyError) as error:
        raise ValueError(f"{path!r} is truncated or not an .npz file: {error}") from error


def _some(names):
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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
