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


# The outputs of a fixture, and the factor of the weights that they are for. With small weights, epsilons matter; with
# large ones, attention is nearly one-hot, so that everything added to its scores matters.
FACTORS = {"logits": 1.0, "logits_small": 1 / 32, "logits_large": 3.0}


def timm_weights(name: str, factor: float = 1.0) -> dict[str, np.ndarray]:
    """Return the weights of a fixture, with timm's names and PyTorch's layout.

    Args:
        name: Name of the fixture.
        factor: Factor of the weights that are linear in what the layer gives; see `FACTORS`.
    """
    names = json.loads(str(fixture(name)["names"]))
    return {tensor: _scaled(tensor, _timm_tensor(tensor, shape), factor) for tensor, shape in names}


def _scaled(name, values, factor):
    if name.endswith("running_var"):
        return values * np.float32(factor**2)
    is_linear = values.ndim >= 2 or name.endswith(("bias", "running_mean"))
    return values * np.float32(factor) if is_linear else values


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


def timm_file(name: str, folder: Path, factor: float = 1.0) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(timm_weights(name, factor), path)
    return path


def images(size: int) -> np.ndarray:
    return np.random.RandomState(0).standard_normal((2, size, size, 3)).astype("float32")


def relative_error(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error, relative to the largest expected value."""
    return float(np.max(np.abs(outputs - expected)) / np.max(np.abs(expected)))
