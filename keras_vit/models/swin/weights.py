"""The names that published files use for the arrays of Swin Transformer.

The keys are names of leaf layers in `keras_vit.flatten`, or of one weight of a layer, after a slash; the values are
their names in the file. {i} is the stage's number and {j} the block's.
"""

import re
from collections.abc import Callable

import numpy as np

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third

_OURS = "stage_{i}_block_{j}"
_BUFFERS = ("relative_position_index", "relative_coords_table", "attn_mask")  # Computed from the sizes.


def _array(name: str, take: Callable[[np.ndarray], np.ndarray] = lambda array: array) -> Part:
    return Part(name, take, is_array=True)


def _transposed(array):
    return array.T


def _as_convolution(array):
    """Return the kernel over joined pixels (outputs, 4 * inputs) as that of a convolution of 2 x 2 pixels."""
    if array.ndim != 2 or array.shape[1] % 4:
        return array
    by_place = array.reshape(len(array), 2, 2, -1)  # (outputs, column, row, inputs)
    return by_place.transpose(0, 3, 2, 1)


def _timm(version: int) -> Naming:
    block, attention = "layers.{i}.blocks.{j}", "layers.{i}.blocks.{j}.attn"
    leaves: dict[str, str | Part] = {
        "patch_embedding.projection": "patch_embed.proj",
        "patch_embedding.norm": "patch_embed.norm",
        "stage_{i}_downsample.norm": "layers.{i}.downsample.norm",
        "stage_{i}_downsample.reduction": "layers.{i}.downsample.reduction",
        f"{_OURS}.norm1": f"{block}.norm1",
        f"{_OURS}.norm2": f"{block}.norm2",
        f"{_OURS}.attention.query": third(f"{attention}.qkv", 0),
        f"{_OURS}.attention.key": third(f"{attention}.qkv", 1),
        f"{_OURS}.attention.value": third(f"{attention}.qkv", 2),
        f"{_OURS}.attention.projection": f"{attention}.proj",
        f"{_OURS}.mlp.expand": f"{block}.mlp.fc1",
        f"{_OURS}.mlp.contract": f"{block}.mlp.fc2",
        "norm": "norm",
        "head": "head.fc",
    }
    if version == 1:
        leaves[f"{_OURS}.attention.bias"] = _array(f"{attention}.relative_position_bias_table")
    else:
        leaves |= {
            "stage_{i}_downsample.reduction": Part("layers.{i}.downsample.reduction", _as_convolution),
            f"{_OURS}.attention.query/bias": _array(f"{attention}.q_bias"),
            f"{_OURS}.attention.value/bias": _array(f"{attention}.v_bias"),
            f"{_OURS}.attention.query_norm": _array(f"{attention}.logit_scale"),
            **_continuous_bias(f"{attention}.cpb_mlp"),
        }
    return Naming("timm", PYTORCH, leaves, respell=_timm_spelling)


def _continuous_bias(mlp: str) -> dict[str, str | Part]:
    return {
        f"{_OURS}.attention.bias/hidden_kernel": _array(f"{mlp}.0.weight", _transposed),
        f"{_OURS}.attention.bias/hidden_bias": _array(f"{mlp}.0.bias"),
        f"{_OURS}.attention.bias/output_kernel": _array(f"{mlp}.2.weight", _transposed),
    }


def _timm_spelling(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays with timm's present names. Its older files have the authors'.

    The authors count the layer between two stages to the first of them, and timm to the second.
    """
    if any(name.startswith("layers.0.downsample.") for name in arrays):
        arrays = {re.sub(r"^head\.(?=weight|bias)", "head.fc.", name): array for name, array in arrays.items()}
        return _hugging_face_spelling(arrays)
    return _without_buffers(arrays)


def _hugging_face_spelling(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays with the layer between two stages counted to the second of them."""

    def counted(name):
        return re.sub(r"(?<=layers\.)\d+(?=\.downsample\.)", lambda found: str(int(found[0]) + 1), name)

    return {counted(name): array for name, array in _without_buffers(arrays).items()}


def _without_buffers(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if not name.endswith(_BUFFERS)}


def _hugging_face(version: int) -> Naming:
    model = "swin" if version == 1 else "swinv2"
    block = f"{model}.encoder.layers.{{i}}.blocks.{{j}}"
    attention = f"{block}.attention.self"
    leaves: dict[str, str | Part] = {
        "patch_embedding.projection": f"{model}.embeddings.patch_embeddings.projection",
        "patch_embedding.norm": f"{model}.embeddings.norm",
        "stage_{i}_downsample.norm": f"{model}.encoder.layers.{{i}}.downsample.norm",
        f"{_OURS}.norm1": f"{block}.layernorm_before",
        f"{_OURS}.norm2": f"{block}.layernorm_after",
        f"{_OURS}.attention.query": f"{attention}.query",
        f"{_OURS}.attention.key": f"{attention}.key",
        f"{_OURS}.attention.value": f"{attention}.value",
        f"{_OURS}.attention.projection": f"{block}.attention.output.dense",
        f"{_OURS}.mlp.expand": f"{block}.intermediate.dense",
        f"{_OURS}.mlp.contract": f"{block}.output.dense",
        "norm": f"{model}.layernorm",
        "head": "classifier",
    }
    reduction = f"{model}.encoder.layers.{{i}}.downsample.reduction"
    if version == 1:
        leaves["stage_{i}_downsample.reduction"] = reduction
        leaves[f"{_OURS}.attention.bias"] = _array(f"{attention}.relative_position_bias_table")
    else:
        leaves["stage_{i}_downsample.reduction"] = Part(reduction, _as_convolution)
        leaves[f"{_OURS}.attention.query_norm"] = _array(f"{attention}.logit_scale")
        leaves |= _continuous_bias(f"{attention}.continuous_position_bias_mlp")
    return Naming("Hugging Face", PYTORCH, leaves, respell=_hugging_face_spelling)


NAMINGS = (_timm(1), _timm(2), _hugging_face(1), _hugging_face(2))
