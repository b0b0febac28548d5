"""The names that published files use for the arrays of TNT.

The keys are names of leaf layers in `keras_vit.flatten`, or of one weight of a layer, after a slash; the values are
their names in the file. {i} is the block's number.
"""

from collections.abc import Mapping

import numpy as np

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, half


def _kernel(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _positions(array: np.ndarray) -> np.ndarray:
    """Return the positions of a patch's pixels as (pixels, width).

    timm has them as (1, width, rows, columns), and the authors as (1, pixels, width).
    """
    if array.ndim == 4:
        return array[0].reshape(array.shape[1], -1).T
    return array[0] if array.ndim == 3 else array


def _block(ours: str, theirs: str, attention: str, mlp: str, norms: tuple[str, str]) -> dict[str, str | Part]:
    """Return the names of the leaves of one of the two transformers of a block."""
    return {
        f"{ours}.norm1": f"{theirs}.{norms[0]}",
        f"{ours}.attention.query": half(f"{theirs}.{attention}.qk", 0),
        f"{ours}.attention.key": half(f"{theirs}.{attention}.qk", 1),
        f"{ours}.attention.value": f"{theirs}.{attention}.v",
        f"{ours}.attention.projection": f"{theirs}.{attention}.proj",
        f"{ours}.norm2": f"{theirs}.{norms[1]}",
        f"{ours}.mlp.expand": f"{theirs}.{mlp}.fc1",
        f"{ours}.mlp.contract": f"{theirs}.{mlp}.fc2",
    }


def _leaves(names: Mapping[str, str], blocks: Mapping[str, str | Part]) -> dict[str, str | Part]:
    """Return the names of all leaves.

    Args:
        names: The file's names of the embedding, of the positions of pixels and of patches, and of the two
            normalizations around the projection of pixels to patches.
        blocks: The names of the leaves of the two transformers of a block.
    """
    projection = {"patch_norm1": names["norm1"], "patch_projection": "proj", "patch_norm2": names["norm2"]}
    return {
        "patch_embedding.projection/kernel": Part(f"{names['embedding']}.proj.weight", _kernel, is_array=True),
        "patch_embedding.projection/bias": Part(f"{names['embedding']}.proj.bias", is_array=True),
        "patch_embedding.projection/positions": Part(names["pixels"], _positions, is_array=True),
        **projection,
        **{f"block_{{i}}.{leaf}": f"blocks.{{i}}.{place}" for leaf, place in projection.items()},
        "class_token": "cls_token",
        "position_embedding": names["patches"],
        **blocks,
        "norm": "norm",
        "head": "head",
    }


_INNER, _OUTER, _BLOCK = "block_{i}.inner", "block_{i}.outer", "blocks.{i}"
_TIMM = Naming(
    "timm",
    PYTORCH,
    _leaves(
        {
            "embedding": "pixel_embed",
            "pixels": "pixel_pos",
            "patches": "patch_pos",
            "norm1": "norm1_proj",
            "norm2": "norm2_proj",
        },
        {
            **_block(_INNER, _BLOCK, "attn_in", "mlp_in", ("norm_in", "norm_mlp_in")),
            **_block(_OUTER, _BLOCK, "attn_out", "mlp", ("norm_out", "norm_mlp")),
        },
    ),
)
_AUTHORS = Naming(
    "huawei-noah/Efficient-AI-Backbones",
    PYTORCH,
    _leaves(
        {
            "embedding": "patch_embed",
            "pixels": "inner_pos",
            "patches": "outer_pos",
            "norm1": "proj_norm1",
            "norm2": "proj_norm2",
        },
        {
            **_block(_INNER, _BLOCK, "inner_attn", "inner_mlp", ("inner_norm1", "inner_norm2")),
            **_block(_OUTER, _BLOCK, "outer_attn", "outer_mlp", ("outer_norm1", "outer_norm2")),
        },
    ),
    may_be_unused=("outer_tokens",),  # The authors' model does not use them either.
)

NAMINGS = (_TIMM, _AUTHORS)
