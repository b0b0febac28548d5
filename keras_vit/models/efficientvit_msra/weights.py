"""The names that published files use for the arrays of Microsoft Research's EfficientViT.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the stage's number,
{j} the block's, and {k} the head's or the convolution's.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part

_KEY_DIM = 16  # The same in all published models.
_MOST_HEADS = 4
# A file stacks the query, key and value of a head along the first axis, in convolutions and normalizations.
_ROWS = {
    "query": slice(0, _KEY_DIM),
    "key": slice(_KEY_DIM, 2 * _KEY_DIM),
    "value": slice(2 * _KEY_DIM, None),
}


def _rows(name: str, rows: slice | int) -> Part:
    return Part(name, lambda array: array[rows])


def _convolution(ours: str, timm: str) -> dict[str, str]:
    return {f"{ours}.conv": f"{timm}.conv", f"{ours}.norm": f"{timm}.bn"}


def _branches(ours: str, index: int, depthwise: str, mlp: str) -> dict[str, str]:
    return {
        **_convolution(f"{ours}.depthwise{index}.depthwise", f"{depthwise}.m"),
        **_convolution(f"{ours}.mlp{index}.expand", f"{mlp}.m.pw1"),
        **_convolution(f"{ours}.mlp{index}.project", f"{mlp}.m.pw2"),
    }


_BLOCK, _TIMM_BLOCK = "stage_{i}_block_{j}", "stages.{i}.blocks.{j}"
_ATTENTION, _TIMM_ATTENTION = f"{_BLOCK}.attention", f"{_TIMM_BLOCK}.mixer.m.attn"
_DOWN, _TIMM_DOWN = "stage_{i}_downsample", "stages.{i}.downsample"

TIMM = Naming(
    "timm",
    PYTORCH,
    {
        **_convolution("patch_embedding_{k}", "patch_embed.conv{k}"),
        **_branches(_BLOCK, 0, f"{_TIMM_BLOCK}.dw0", f"{_TIMM_BLOCK}.ffn0"),
        **{
            f"{_ATTENTION}.head_{{k}}.{ours}.{part}": _rows(f"{_TIMM_ATTENTION}.qkvs.{{k}}.{theirs}", rows)
            for ours, rows in _ROWS.items()
            for part, theirs in (("conv", "conv"), ("norm", "bn"))
        },
        **_convolution(f"{_ATTENTION}.head_{{k}}.nearby", f"{_TIMM_ATTENTION}.dws.{{k}}"),
        **{
            f"{_ATTENTION}.head_{head}.bias": _rows(f"{_TIMM_ATTENTION}.attention_biases", head)
            for head in range(_MOST_HEADS)
        },
        **_convolution(f"{_ATTENTION}.project", f"{_TIMM_ATTENTION}.proj.1"),
        **_branches(_BLOCK, 1, f"{_TIMM_BLOCK}.dw1", f"{_TIMM_BLOCK}.ffn1"),
        **_branches(_DOWN, 0, f"{_TIMM_DOWN}.res1.0", f"{_TIMM_DOWN}.res1.1"),
        **_convolution(f"{_DOWN}.merge.expand", f"{_TIMM_DOWN}.patchmerge.conv1"),
        **_convolution(f"{_DOWN}.merge.depthwise", f"{_TIMM_DOWN}.patchmerge.conv2"),
        f"{_DOWN}.merge.squeeze_excite.reduce": f"{_TIMM_DOWN}.patchmerge.se.fc1",
        f"{_DOWN}.merge.squeeze_excite.expand": f"{_TIMM_DOWN}.patchmerge.se.fc2",
        **_convolution(f"{_DOWN}.merge.project", f"{_TIMM_DOWN}.patchmerge.conv3"),
        **_branches(_DOWN, 1, f"{_TIMM_DOWN}.res2.0", f"{_TIMM_DOWN}.res2.1"),
        "head_norm": "head.bn",
        "head": "head.linear",
    },
    unused_without_head=("head.bn.",),
)

NAMINGS = (TIMM,)
