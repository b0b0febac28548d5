"""The names that published files use for the arrays of XCiT.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the block's number.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third

_MOST_CONVOLUTIONS = 4  # In the embedding of patches of 16 x 16 pixels.


def _branches(ours: str, theirs: str, mlp: int, norms: dict[int, int]) -> dict[str, str | Part]:
    """Return the names of the leaves that both kinds of blocks have.

    Args:
        ours: Name of the block.
        theirs: Its name in the file.
        mlp: The number of the MLP's branch. In the file it is 2.
        norms: The file's number of each normalization.
    """
    return {
        **{f"{ours}.norm{number}": f"{theirs}.norm{their}" for number, their in norms.items()},
        f"{ours}.attention.projection": f"{theirs}.attn.proj",
        f"{ours}.layer_scale1": Part(f"{theirs}.gamma1", is_array=True),
        f"{ours}.mlp.expand": f"{theirs}.mlp.fc1",
        f"{ours}.mlp.contract": f"{theirs}.mlp.fc2",
        f"{ours}.layer_scale{mlp}": Part(f"{theirs}.gamma2", is_array=True),
    }


TIMM = Naming(
    "timm",
    PYTORCH,
    {
        # The activations between the convolutions have numbers too.
        **{
            f"patch_embedding.projection.conv_{index}.{leaf}": f"patch_embed.proj.{2 * index}.{number}"
            for index in range(_MOST_CONVOLUTIONS)
            for number, leaf in enumerate(("conv", "norm"))
        },
        # The file has a 1 x 1 convolution.
        "position_embedding": Part(
            "pos_embed.token_projection", lambda array: array[:, :, 0, 0].T if array.ndim == 4 else array
        ),
        "class_token": "cls_token",
        **_branches("block_{i}", "blocks.{i}", mlp=3, norms={1: 1, 2: 3, 3: 2}),
        "block_{i}.attention.query": third("blocks.{i}.attn.qkv", 0),
        "block_{i}.attention.key": third("blocks.{i}.attn.qkv", 1),
        "block_{i}.attention.value": third("blocks.{i}.attn.qkv", 2),
        "block_{i}.attention.query_norm": Part(
            "blocks.{i}.attn.temperature", lambda array: array.reshape(-1), is_array=True
        ),
        "block_{i}.local.conv1": "blocks.{i}.local_mp.conv1",
        "block_{i}.local.norm": "blocks.{i}.local_mp.bn",
        "block_{i}.local.conv2": "blocks.{i}.local_mp.conv2",
        "block_{i}.local.layer_scale": Part("blocks.{i}.gamma3", is_array=True),
        **_branches("class_block_{i}", "cls_attn_blocks.{i}", mlp=2, norms={1: 1, 2: 2}),
        "class_block_{i}.attention.query": "cls_attn_blocks.{i}.attn.q",
        "class_block_{i}.attention.key": "cls_attn_blocks.{i}.attn.k",
        "class_block_{i}.attention.value": "cls_attn_blocks.{i}.attn.v",
        "norm": "norm",
        "head": "head",
    },
)

NAMINGS = (TIMM,)
