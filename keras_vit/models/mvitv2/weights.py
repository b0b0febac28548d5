"""The names that published files use for the arrays of MViTv2.

The keys are names of leaf layers in `keras_vit.flatten`; the values are their names in the file. {i} is the stage's
number and {j} the block's.
"""

import numpy as np

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third

_OURS, _THEIRS = "stage_{i}_block_{j}", "stages.{i}.blocks.{j}"


def _of_one_head(array):
    """Return a depthwise kernel (channels, 1, height, width) as (height, width, channels, 1)."""
    return np.transpose(array, (2, 3, 0, 1)) if array.ndim == 4 else array


_TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "patch_embedding.conv": "patch_embed.proj",
        f"{_OURS}.norm1": f"{_THEIRS}.norm1",
        f"{_OURS}.norm2": f"{_THEIRS}.norm2",
        f"{_OURS}.shortcut1": f"{_THEIRS}.shortcut_proj_attn",
        f"{_OURS}.shortcut2": f"{_THEIRS}.shortcut_proj_mlp",
        **{
            f"{_OURS}.attention.{kind}": third(f"{_THEIRS}.attn.qkv", index)
            for index, kind in enumerate(("query", "key", "value"))
        },
        **{
            f"{_OURS}.attention.{kind}_pool.conv": Part(
                f"{_THEIRS}.attn.pool_{kind[0]}.weight", _of_one_head, is_array=True
            )
            for kind in ("query", "key", "value")
        },
        **{
            f"{_OURS}.attention.{kind}_pool.norm": f"{_THEIRS}.attn.norm_{kind[0]}"
            for kind in ("query", "key", "value")
        },
        f"{_OURS}.attention.row_scores": f"{_THEIRS}.attn.rel_pos_h",
        f"{_OURS}.attention.column_scores": f"{_THEIRS}.attn.rel_pos_w",
        f"{_OURS}.attention.projection": f"{_THEIRS}.attn.proj",
        f"{_OURS}.mlp.expand": f"{_THEIRS}.mlp.fc1",
        f"{_OURS}.mlp.contract": f"{_THEIRS}.mlp.fc2",
        "norm": "norm",
        "head": "head.fc",
    },
)
NAMINGS = (_TIMM,)
