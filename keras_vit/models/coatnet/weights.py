"""The names that timm's files use for the arrays of CoAtNet.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {j} is the block's number.
The files number the stages from 0; the models, like the paper, number them from 1.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part

_HEAD_DIM = 32  # The same in all models.


def _of_each_head(name: str, index: int) -> Part:
    """Return the rows of the query, key or value; the file has all three of one head before those of the next."""

    def take(array):
        rows = array.reshape(-1, 3, _HEAD_DIM, *array.shape[1:])[:, index]
        return rows.reshape(-1, *array.shape[1:])

    return Part(name, take)


def _convolutions(ours: str, theirs: str) -> dict[str, str | Part]:
    return {
        f"{ours}.shortcut.project": f"{theirs}.shortcut.expand",
        f"{ours}.pre_norm": f"{theirs}.pre_norm",
        f"{ours}.expand.conv": f"{theirs}.conv1_1x1",
        f"{ours}.expand.norm": f"{theirs}.norm1",
        f"{ours}.depthwise.conv": f"{theirs}.conv2_kxk",
        f"{ours}.depthwise.norm": f"{theirs}.norm2",
        f"{ours}.squeeze_excite.reduce": f"{theirs}.se.fc1",
        f"{ours}.squeeze_excite.expand": f"{theirs}.se.fc2",
        f"{ours}.project.conv": f"{theirs}.conv3_1x1",
    }


def _transformers(ours: str, theirs: str) -> dict[str, str | Part]:
    return {
        # A norm that is followed by a pooling is inside a container.
        f"{ours.format(j=0)}.norm1": f"{theirs.format(j=0)}.norm1.norm",
        f"{ours}.shortcut.project": f"{theirs}.shortcut.expand",
        f"{ours}.norm1": f"{theirs}.norm1",
        **{
            f"{ours}.attention.{name}": _of_each_head(f"{theirs}.attn.qkv", index)
            for index, name in enumerate(("query", "key", "value"))
        },
        f"{ours}.attention.bias": Part(f"{theirs}.attn.rel_pos.relative_position_bias_table", is_array=True),
        f"{ours}.attention.projection": f"{theirs}.attn.proj",
        f"{ours}.norm2": f"{theirs}.norm2",
        f"{ours}.mlp.expand": f"{theirs}.mlp.fc1",
        f"{ours}.mlp.contract": f"{theirs}.mlp.fc2",
    }


TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "stem_0.conv": "stem.conv1",
        "stem_0.norm": "stem.norm1",
        "stem_1.conv": "stem.conv2",
        **_convolutions("stage_1_block_{j}", "stages.0.blocks.{j}"),
        **_convolutions("stage_2_block_{j}", "stages.1.blocks.{j}"),
        **_transformers("stage_3_block_{j}", "stages.2.blocks.{j}"),
        **_transformers("stage_4_block_{j}", "stages.3.blocks.{j}"),
        "norm": "head.norm",
        "pre_logits": "head.pre_logits.fc",
        "head": "head.fc",
    },
    unused_without_head=("head.norm.", "head.pre_logits."),
)

NAMINGS = (TIMM,)
