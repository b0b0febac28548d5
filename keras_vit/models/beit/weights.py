"""The names that published files use for the arrays of BEiT: timm's, which are those of the authors."""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third

_SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"


def _with_a_table_in_each_block(arrays):
    """Give each block the table that the blocks of the authors' pre-training share.

    A table of indices, which the authors' files have, is left out, and so are the keys' bias of zeros that timm adds.
    """
    arrays = {
        name: array for name, array in arrays.items() if not name.endswith(("relative_position_index", ".attn.k_bias"))
    }
    shared = arrays.pop(_SHARED_TABLE, None)
    if shared is not None:
        blocks = {name.split(".")[1] for name in arrays if name.startswith("blocks.")}
        arrays |= {f"blocks.{block}.attn.relative_position_bias_table": shared for block in blocks}
    return arrays


TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "patch_embedding.projection": "patch_embed.proj",
        "class_token": "cls_token",
        "block_{i}.norm1": "blocks.{i}.norm1",
        "block_{i}.attention.query": third("blocks.{i}.attn.qkv", 0),
        "block_{i}.attention.query/bias": Part("blocks.{i}.attn.q_bias", is_array=True),
        "block_{i}.attention.key": third("blocks.{i}.attn.qkv", 1),
        "block_{i}.attention.value": third("blocks.{i}.attn.qkv", 2),
        "block_{i}.attention.value/bias": Part("blocks.{i}.attn.v_bias", is_array=True),
        "block_{i}.attention.bias": Part("blocks.{i}.attn.relative_position_bias_table", is_array=True),
        "block_{i}.attention.projection": "blocks.{i}.attn.proj",
        "block_{i}.layer_scale1": Part("blocks.{i}.gamma_1", is_array=True),
        "block_{i}.norm2": "blocks.{i}.norm2",
        "block_{i}.mlp.expand": "blocks.{i}.mlp.fc1",
        "block_{i}.mlp.contract": "blocks.{i}.mlp.fc2",
        "block_{i}.layer_scale2": Part("blocks.{i}.gamma_2", is_array=True),
        "fc_norm": "fc_norm",
        "head": "head",
        # What the authors' pre-training adds to the encoder.
        "mask_token": "mask_token",
        "norm": "norm",
        "code_head": "lm_head",
    },
    beside_the_model=("mask_token", "norm.", "lm_head."),
    respell=_with_a_table_in_each_block,
)
NAMINGS = (TIMM,)
