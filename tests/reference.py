"""The reference outputs in tests/fixtures, and their weights, which are generated from the names of the tensors."""

import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz") as file:
        return dict(file)


def timm_weights(name: str) -> dict[str, np.ndarray]:
    """Return the weights of a fixture, with timm's names and PyTorch's layout."""
    return {tensor: _timm_tensor(tensor, shape) for tensor, shape in json.loads(str(fixture(name)["names"]))}


def _timm_tensor(name, shape):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        values = 0.5 + random.uniform(size=shape)
    elif len(shape) >= 2:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(("weight", "gamma")):
        values = 1 + 0.1 * random.standard_normal(shape)
    else:
        values = 0.1 * random.standard_normal(shape)
    return values.astype("float32")


def google_weights(name: str) -> dict[str, np.ndarray]:
    """Return the weights of a fixture, with the names of Google's releases."""
    return {tensor: _google_tensor(tensor, shape) for tensor, shape in json.loads(str(fixture(name)["shapes"])).items()}


def _google_tensor(name, shape):
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("scale"):
        values = 1 + 0.1 * values
    elif name.endswith("kernel"):
        split_by_head = name.split("/")[-2] in ("query", "key", "value")
        values = values / np.sqrt(shape[0] if split_by_head else np.prod(shape[:-1]))
    else:
        values = 0.1 * values
    return values.astype("float32")


def timm_file(name: str, folder: Path) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(timm_weights(name), path)
    return path


def images(size: int) -> np.ndarray:
    return np.random.RandomState(0).standard_normal((2, size, size, 3)).astype("float32")


def relative_error(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error, relative to the largest expected value."""
    return float(np.max(np.abs(outputs - expected)) / np.max(np.abs(expected)))
