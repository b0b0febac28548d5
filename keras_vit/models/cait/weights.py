"""The names that published files use for the arrays of CaiT. The authors' are the same as timm's.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the block's number.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third


def _block(ours: str, theirs: str) -> dict[str, str | Part]:
    """Return the names of the leaves that both kinds of blocks have."""
    return {
        f"{ours}.norm1": f"{theirs}.norm1",
        f"{ours}.attention.projection": f"{theirs}.attn.proj",
        f"{ours}.layer_scale1": Part(f"{theirs}.gamma_1", is_array=True),
        f"{ours}.norm2": f"{theirs}.norm2",
        f"{ours}.mlp.expand": f"{theirs}.mlp.fc1",
        f"{ours}.mlp.contract": f"{theirs}.mlp.fc2",
        f"{ours}.layer_scale2": Part(f"{theirs}.gamma_2", is_array=True),
    }


TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "patch_embedding.projection": "patch_embed.proj",
        "position_embedding": "pos_embed",
        "class_token": "cls_token",
        **_block("block_{i}", "blocks.{i}"),
        "block_{i}.attention.query": third("blocks.{i}.attn.qkv", 0),
        "block_{i}.attention.key": third("blocks.{i}.attn.qkv", 1),
        "block_{i}.attention.value": third("blocks.{i}.attn.qkv", 2),
        "block_{i}.attention.mix_scores": "blocks.{i}.attn.proj_l",
        "block_{i}.attention.mix_probabilities": "blocks.{i}.attn.proj_w",
        **_block("class_block_{i}", "blocks_token_only.{i}"),
        "class_block_{i}.attention.query": "blocks_token_only.{i}.attn.q",
        "class_block_{i}.attention.key": "blocks_token_only.{i}.attn.k",
        "class_block_{i}.attention.value": "blocks_token_only.{i}.attn.v",
        "norm": "norm",
        "head": "head",
    },
)

NAMINGS = (TIMM,)
