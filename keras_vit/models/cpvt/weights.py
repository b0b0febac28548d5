"""The names that published files use for the arrays of CPVT and Twins. The authors' are the same as timm's.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the number of the
block of CPVT, or of the stage of Twins, and {j} that of the block in its stage.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, half, third


def _block(ours: str, theirs: str) -> dict[str, str | Part]:
    """Return the names of the leaves that all blocks have, except for queries, keys and values."""
    return {
        f"{ours}.norm1": f"{theirs}.norm1",
        f"{ours}.attention.projection": f"{theirs}.attn.proj",
        f"{ours}.norm2": f"{theirs}.norm2",
        f"{ours}.mlp.expand": f"{theirs}.mlp.fc1",
        f"{ours}.mlp.contract": f"{theirs}.mlp.fc2",
    }


def _stacked(ours: str, theirs: str) -> dict[str, str | Part]:
    """Return the names of the queries, keys and values of attention whose file stacks all three."""
    return {
        f"{ours}.attention.{name}": third(f"{theirs}.attn.qkv", index)
        for index, name in enumerate(("query", "key", "value"))
    }


_CPVT = Naming(
    "Meituan-AutoML/CPVT",
    PYTORCH,
    {
        "patch_embedding.projection": "patch_embed.proj",
        "class_token": "cls_token",
        **_block("block_{i}", "blocks.{i}"),
        **_stacked("block_{i}", "blocks.{i}"),
        "position.conv": "pos_block.proj.0",
        "norm": "norm",
        "head": "head",
    },
)


def _twins(has_windows: bool) -> Naming:
    """Return the names of Twins-SVT or of Twins-PCPVT. In SVT, the blocks with an even number have windows."""
    ours, theirs = "stage_{i}_block_{j}", "blocks.{i}.{j}"
    return Naming(
        "timm",
        PYTORCH,
        {
            "stage_{i}_embedding.projection": "patch_embeds.{i}.proj",
            "stage_{i}_embedding.norm": "patch_embeds.{i}.norm",
            "stage_{i}_position.conv": "pos_block.{i}.proj.0",
            **_block(ours, theirs),
            **{
                name: part
                for block in range(0, _MOST_BLOCKS, 2)
                for name, part in _stacked(f"stage_{{i}}_block_{block}", f"blocks.{{i}}.{block}").items()
                if has_windows
            },
            f"{ours}.attention.query": f"{theirs}.attn.q",
            f"{ours}.attention.key": half(f"{theirs}.attn.kv", 0),
            f"{ours}.attention.value": half(f"{theirs}.attn.kv", 1),
            f"{ours}.attention.reduction.conv": f"{theirs}.attn.sr",
            f"{ours}.attention.reduction.norm": f"{theirs}.attn.norm",
            "norm": "norm",
            "head": "head",
        },
    )


_MOST_BLOCKS = 40  # Of a stage. The largest model has 27.

NAMINGS = (_CPVT, _twins(False), _twins(True))
