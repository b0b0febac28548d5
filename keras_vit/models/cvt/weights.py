"""The names that published files use for the arrays of CvT.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the stage's number
and {j} the block's.
"""

from collections.abc import Mapping

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming

_OURS = "stage_{i}_block_{j}"
_PROJECTIONS = ("query", "key", "value")


def _embeddings(projection: str, norm: str) -> dict[str, str]:
    """Return the names of the embeddings. The last one gives tokens."""
    return {
        f"{ours}.{leaf}": place
        for ours in ("stage_{i}_embedding", "stage_{i}_embedding.projection")
        for leaf, place in (("projection", projection), ("norm", norm))
    }


def _blocks(block: str, leaves: Mapping[str, str]) -> dict[str, str]:
    return {f"{_OURS}.{leaf}": f"{block}.{place}" for leaf, place in leaves.items()}


_AUTHORS = Naming(
    "microsoft/CvT",
    PYTORCH,
    {
        **_embeddings("stage{i}.patch_embed.proj", "stage{i}.patch_embed.norm"),
        "class_token": "stage2.cls_token",
        **_blocks(
            "stage{i}.blocks.{j}",
            {
                "norm1": "norm1",
                **{f"attention.{name}_conv.conv": f"attn.conv_proj_{name[0]}.conv" for name in _PROJECTIONS},
                **{f"attention.{name}_conv.norm": f"attn.conv_proj_{name[0]}.bn" for name in _PROJECTIONS},
                **{f"attention.{name}": f"attn.proj_{name[0]}" for name in _PROJECTIONS},
                "attention.projection": "attn.proj",
                "norm2": "norm2",
                "mlp.expand": "mlp.fc1",
                "mlp.contract": "mlp.fc2",
            },
        ),
        "norm": "norm",
        "head": "head",
    },
)

_STAGE = "cvt.encoder.stages.{i}"
_CONV = "attention.attention.convolution_projection_{}.convolution_projection"
_HUGGING_FACE = Naming(
    "Hugging Face",
    PYTORCH,
    {
        **_embeddings(
            f"{_STAGE}.embedding.convolution_embeddings.projection",
            f"{_STAGE}.embedding.convolution_embeddings.normalization",
        ),
        "class_token": "cvt.encoder.stages.2.cls_token",
        **_blocks(
            f"{_STAGE}.layers.{{j}}",
            {
                "norm1": "layernorm_before",
                **{f"attention.{name}_conv.conv": f"{_CONV.format(name)}.convolution" for name in _PROJECTIONS},
                **{f"attention.{name}_conv.norm": f"{_CONV.format(name)}.normalization" for name in _PROJECTIONS},
                **{f"attention.{name}": f"attention.attention.projection_{name}" for name in _PROJECTIONS},
                "attention.projection": "attention.output.dense",
                "norm2": "layernorm_after",
                "mlp.expand": "intermediate.dense",
                "mlp.contract": "output.dense",
            },
        ),
        "norm": "layernorm",
        "head": "classifier",
    },
)

NAMINGS = (_AUTHORS, _HUGGING_FACE)
