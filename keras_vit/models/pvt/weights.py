"""The names that published files use for the arrays of PVT and PVT v2.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the stage's number
and {j} the block's.
"""

from collections.abc import Callable, Mapping

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, half

_MOST_STAGES = 4
_AUTHORS: dict[str, str | tuple[str, int]] = {  # Of a block; a number is the half of an array that stacks two.
    "norm1": "norm1",
    "attention.query": "attn.q",
    "attention.key": ("attn.kv", 0),
    "attention.value": ("attn.kv", 1),
    "attention.projection": "attn.proj",
    "attention.reduction.conv": "attn.sr",
    "attention.reduction.norm": "attn.norm",
    "norm2": "norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
_HUGGING_FACE: dict[str, str | tuple[str, int]] = {
    "norm1": "layer_norm_1",
    "norm2": "layer_norm_2",
    "mlp.expand": "mlp.dense1",
    "mlp.contract": "mlp.dense2",
}
_HUGGING_FACE_V1 = _HUGGING_FACE | {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.projection": "attention.output.dense",
    "attention.reduction.conv": "attention.self.sequence_reduction",
    "attention.reduction.norm": "attention.self.layer_norm",
}
_HUGGING_FACE_V2 = _HUGGING_FACE | {
    "attention.query": "attention.query",
    "attention.key": "attention.key",
    "attention.value": "attention.value",
    "attention.projection": "attention.proj",
    "attention.reduction.conv": "attention.spatial_reduction",
    "attention.reduction.norm": "attention.layer_norm",
    "mlp.depthwise": "mlp.dwconv.dwconv",
}


def _stages(
    embedding: Callable[[int], str], norm: str, block: Callable[[int], str], leaves: Mapping[str, str | tuple[str, int]]
) -> dict[str, str | Part]:
    """Return the names of the leaves of all stages' embeddings and blocks.

    Args:
        embedding: From a stage's number to the file's name of its embedding.
        norm: The file's name of the normalization in an embedding.
        block: From a stage's number to the file's name of its blocks.
        leaves: The file's names of the leaves of a block.
    """
    names: dict[str, str | Part] = {}
    for stage in range(_MOST_STAGES):
        ours, theirs = f"stage_{stage}_embedding", embedding(stage)
        for before in (ours, f"{ours}.projection"):  # The last embedding of PVT gives tokens.
            names[f"{before}.projection"] = f"{theirs}.{'projection' if norm == 'layer_norm' else 'proj'}"
            names[f"{before}.norm"] = f"{theirs}.{norm}"
        for leaf, place in leaves.items():
            name = f"{block(stage)}.{place if isinstance(place, str) else place[0]}"
            names[f"stage_{stage}_block_{{j}}.{leaf}"] = name if isinstance(place, str) else half(name, place[1])
    return names


def _positions(place: Callable[[int], str]) -> dict[str, str | Part]:
    """Return the names of the position embeddings, from a function from a stage's number to the file's name."""
    return {
        name: place(stage)
        for stage in range(_MOST_STAGES)
        for name in (f"stage_{stage}_embedding.position", f"stage_{stage}_position")
    }


_PVT = Naming(
    "whai362/PVT",
    PYTORCH,
    {
        **_stages(lambda i: f"patch_embed{i + 1}", "norm", lambda i: f"block{i + 1}.{{j}}", _AUTHORS),
        **_positions(lambda i: f"pos_embed{i + 1}"),
        "class_token": "cls_token",
        "norm": "norm",
        "head": "head",
    },
)
_PVT_HUGGING_FACE = Naming(
    "Hugging Face",
    PYTORCH,
    {
        **_stages(
            lambda i: f"pvt.encoder.patch_embeddings.{i}",
            "layer_norm",
            lambda i: f"pvt.encoder.block.{i}.{{j}}",
            _HUGGING_FACE_V1,
        ),
        **_positions(lambda i: f"pvt.encoder.patch_embeddings.{i}.position_embeddings"),
        "class_token": "pvt.encoder.patch_embeddings.3.cls_token",
        "norm": "pvt.encoder.layer_norm",
        "head": "classifier",
    },
)
_PVT_V2_TIMM = Naming(
    "timm",
    PYTORCH,
    {
        **_stages(
            lambda i: f"stages.{i}.downsample" if i else "patch_embed",
            "norm",
            lambda i: f"stages.{i}.blocks.{{j}}",
            _AUTHORS | {"mlp.depthwise": "mlp.dwconv"},
        ),
        "stage_{i}_norm": "stages.{i}.norm",
        "head": "head",
    },
)
_PVT_V2 = Naming(
    "whai362/PVT",
    PYTORCH,
    {
        **_stages(
            lambda i: f"patch_embed{i + 1}",
            "norm",
            lambda i: f"block{i + 1}.{{j}}",
            _AUTHORS | {"mlp.depthwise": "mlp.dwconv.dwconv"},
        ),
        **{f"stage_{i}_norm": f"norm{i + 1}" for i in range(_MOST_STAGES)},
        "head": "head",
    },
)
_PVT_V2_HUGGING_FACE = Naming(
    "Hugging Face",
    PYTORCH,
    {
        **_stages(
            lambda i: f"pvt_v2.encoder.layers.{i}.patch_embedding",
            "layer_norm",
            lambda i: f"pvt_v2.encoder.layers.{i}.blocks.{{j}}",
            _HUGGING_FACE_V2,
        ),
        **{
            f"stage_{i}_embedding.projection": f"pvt_v2.encoder.layers.{i}.patch_embedding.proj"
            for i in range(_MOST_STAGES)
        },
        "stage_{i}_norm": "pvt_v2.encoder.layers.{i}.layer_norm",
        "head": "classifier",
    },
)

NAMINGS = (_PVT, _PVT_HUGGING_FACE, _PVT_V2_TIMM, _PVT_V2, _PVT_V2_HUGGING_FACE)
