"""The reference outputs in tests/fixtures, and their weights, which are generated from the names of the tensors."""

import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parent / "fixtures"
# Many fixtures have outputs for scaled weights as well. With small ones, the epsilons of the norms count; with large
# ones, attention is nearly one-hot, so that position biases, temperatures and the order of the heads count.
SCALES = {"logits": 1.0, "logits_small": 1 / 32, "logits_large": 3.0}


def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz") as file:
        return dict(file)


def timm_weights(name: str, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Return the weights of a fixture, with timm's names and PyTorch's layout.

    Args:
        name: Name of the fixture.
        scale: Factor of all kernels and biases, see `SCALES`.
    """
    expected = fixture(name)
    # Some tensors would have too little effect, so the fixture has factors for them.
    factors = json.loads(str(expected.get("scale", "{}")))
    return {
        tensor: _timm_tensor(tensor, shape, scale) * np.float32(factors.get(tensor, 1))
        for tensor, shape in json.loads(str(expected["names"]))
    }


def _timm_tensor(name, shape, scale):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        values = 0.5 + random.uniform(size=shape)
    elif len(shape) >= 2:
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    elif name.endswith(("weight", "gamma")):
        values = 1 + 0.1 * random.standard_normal(shape)
    else:
        values = 0.1 * random.standard_normal(shape)
    if name.endswith("running_var"):
        values *= scale**2
    elif len(shape) >= 2 or name.endswith(("bias", "running_mean")):
        values *= scale
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


def timm_file(name: str, folder: Path, scale: float = 1.0) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(timm_weights(name, scale), path)
    return path


def images(size: int | tuple[int, int]) -> np.ndarray:
    height, width = (size, size) if isinstance(size, int) else size
    return np.random.RandomState(0).standard_normal((2, height, width, 3)).astype("float32")


def relative_error(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error, relative to the largest expected value."""
    return float(np.max(np.abs(outputs - expected)) / np.max(np.abs(expected)))
