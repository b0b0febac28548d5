"""The names that published files use for the arrays of NAT and DiNAT.

The keys are names of leaf layers in `keras_vit.flatten`, or of one weight of a layer, after a slash; the values are
their names in the file. {i} is the stage's number and {j} the block's.
"""

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third

_OURS = "stage_{i}_block_{j}"


def _by_position(table):
    """Return position biases (heads, rows, columns) as a table (rows * columns, heads)."""
    return table.reshape(len(table), -1).T if table.ndim == 3 else table


_BLOCK = "levels.{i}.blocks.{j}"
_AUTHORS = Naming(
    "NAT",
    PYTORCH,
    {
        "tokenizer.conv_0.conv": "patch_embed.proj.0",
        "tokenizer.conv_1.conv": "patch_embed.proj.1",
        "tokenizer.norm": "patch_embed.norm",
        f"{_OURS}.norm1": f"{_BLOCK}.norm1",
        f"{_OURS}.norm2": f"{_BLOCK}.norm2",
        f"{_OURS}.attention.query": third(f"{_BLOCK}.attn.qkv", 0),
        f"{_OURS}.attention.key": third(f"{_BLOCK}.attn.qkv", 1),
        f"{_OURS}.attention.value": third(f"{_BLOCK}.attn.qkv", 2),
        f"{_OURS}.attention.bias": Part(f"{_BLOCK}.attn.rpb", _by_position, is_array=True),
        f"{_OURS}.attention.projection": f"{_BLOCK}.attn.proj",
        f"{_OURS}.mlp.expand": f"{_BLOCK}.mlp.fc1",
        f"{_OURS}.mlp.contract": f"{_BLOCK}.mlp.fc2",
        f"{_OURS}.layer_scale1": Part(f"{_BLOCK}.gamma1", is_array=True),
        f"{_OURS}.layer_scale2": Part(f"{_BLOCK}.gamma2", is_array=True),
        # The authors count the layer between two stages to the first of them.
        **{
            f"stage_{stage}_downsample.{ours}": f"levels.{stage - 1}.downsample.{theirs}"
            for stage in (1, 2, 3)
            for ours, theirs in (("reduction.conv", "reduction"), ("norm", "norm"))
        },
        "norm": "norm",
        "head": "head",
    },
)


def _hugging_face(model: str) -> Naming:
    block = f"{model}.encoder.levels.{{i}}.layers.{{j}}"
    scales = f"{block}.layer_scale_parameters"
    return Naming(
        "Hugging Face",
        PYTORCH,
        {
            "tokenizer.conv_0.conv": f"{model}.embeddings.patch_embeddings.projection.0",
            "tokenizer.conv_1.conv": f"{model}.embeddings.patch_embeddings.projection.1",
            "tokenizer.norm": f"{model}.embeddings.norm",
            f"{_OURS}.norm1": f"{block}.layernorm_before",
            f"{_OURS}.norm2": f"{block}.layernorm_after",
            f"{_OURS}.attention.query": f"{block}.attention.self.query",
            f"{_OURS}.attention.key": f"{block}.attention.self.key",
            f"{_OURS}.attention.value": f"{block}.attention.self.value",
            f"{_OURS}.attention.bias": Part(f"{block}.attention.self.rpb", _by_position, is_array=True),
            f"{_OURS}.attention.projection": f"{block}.attention.output.dense",
            f"{_OURS}.mlp.expand": f"{block}.intermediate.dense",
            f"{_OURS}.mlp.contract": f"{block}.output.dense",
            f"{_OURS}.layer_scale1": Part(scales, lambda array: array[0], is_array=True),
            f"{_OURS}.layer_scale2": Part(scales, lambda array: array[1], is_array=True),
            **{
                f"stage_{stage}_downsample.{ours}": f"{model}.encoder.levels.{stage - 1}.downsample.{theirs}"
                for stage in (1, 2, 3)
                for ours, theirs in (("reduction.conv", "reduction"), ("norm", "norm"))
            },
            "norm": f"{model}.layernorm",
            "head": "classifier",
        },
    )


NAMINGS = (_AUTHORS, _hugging_face("nat"), _hugging_face("dinat"))
