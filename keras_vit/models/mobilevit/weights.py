"""The names that published files use for the arrays of MobileViT and MobileViTv2.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} and {j} are numbers.
The files number the stages from 0; the models, like the papers, number them from 1.
"""

import dataclasses

from keras_vit.weights.layouts import PYTORCH
from keras_vit.weights.naming import Naming, Part, third


def _conv_norms(conv: str, norm: str, places: dict[str, str]) -> dict[str, str | Part]:
    """Return the names of the two leaves of each `ConvNorm`, from its name and its layers' names in the file."""
    leaves: dict[str, str | Part] = {f"{ours}.conv": f"{theirs}.{conv}" for ours, theirs in places.items()}
    return leaves | {f"{ours}.norm": f"{theirs}.{norm}" for ours, theirs in places.items()}


def _within(ours: str, theirs: str, leaves: dict[str, str | Part]) -> dict[str, str | Part]:
    """Return the names of a block's leaves, from their names within the block."""

    def placed(place):
        if isinstance(place, Part):
            return dataclasses.replace(place, name=f"{theirs}.{place.name}")
        return f"{theirs}.{place}"

    return {f"{ours}.{leaf}": placed(place) for leaf, place in leaves.items()}


def _scores_keys_values(name: str) -> dict[str, str | Part]:
    """Return the parts of separable attention's projection: files stack one row of scores, the keys and the values."""
    return {
        "transformer_{j}.attention.query": Part(name, lambda array: array[:1]),
        "transformer_{j}.attention.key": Part(name, lambda array: array[1 : 1 + len(array) // 2]),
        "transformer_{j}.attention.value": Part(name, lambda array: array[1 + len(array) // 2 :]),
    }


def _timm(block: dict[str, str | Part], outside: dict[str, str]) -> Naming:
    residual = _conv_norms("conv", "bn", {"expand": "conv1_1x1", "depthwise": "conv2_kxk", "project": "conv3_1x1"})
    leaves = {**_conv_norms("conv", "bn", outside), "head": "head.fc"}
    for stage in range(5):
        leaves |= _within(f"stage_{stage + 1}_block_{{i}}", f"stages.{stage}.{{i}}", residual | block)
    return Naming("timm", PYTORCH, leaves)


def _hugging_face(model: str, block: dict[str, str | Part], outside: dict[str, str]) -> Naming:
    def conv_norms(places):
        return _conv_norms("convolution", "normalization", places)

    residual = conv_norms({"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"})
    leaves = {**conv_norms({ours: f"{model}.{theirs}" for ours, theirs in outside.items()}), "head": "classifier"}
    for stage in range(5):
        ours, theirs = f"stage_{stage + 1}_block", f"{model}.encoder.layer.{stage}"
        if stage < 2:
            leaves |= _within(f"{ours}_{{i}}", f"{theirs}.layer.{{i}}", residual)
        else:
            leaves |= _within(f"{ours}_0", f"{theirs}.downsampling_layer", residual)
            leaves |= _within(f"{ours}_1", theirs, block)
    return Naming("Hugging Face", PYTORCH, leaves)


_TIMM_TRANSFORMER: dict[str, str | Part] = {
    "transformer_{j}.norm1": "transformer.{j}.norm1",
    "transformer_{j}.norm2": "transformer.{j}.norm2",
    "transformer_{j}.mlp.expand": "transformer.{j}.mlp.fc1",
    "transformer_{j}.mlp.contract": "transformer.{j}.mlp.fc2",
    "norm": "norm",
}
_HUGGING_FACE_TRANSFORMER: dict[str, str | Part] = {
    "transformer_{j}.norm1": "transformer.layer.{j}.layernorm_before",
    "transformer_{j}.norm2": "transformer.layer.{j}.layernorm_after",
    "norm": "layernorm",
}

_V1 = (
    _timm(
        _TIMM_TRANSFORMER
        | _conv_norms("conv", "bn", {"local": "conv_kxk", "project_back": "conv_proj", "fuse": "conv_fusion"})
        | {
            "widen.conv": "conv_1x1",
            "transformer_{j}.attention.query": third("transformer.{j}.attn.qkv", 0),
            "transformer_{j}.attention.key": third("transformer.{j}.attn.qkv", 1),
            "transformer_{j}.attention.value": third("transformer.{j}.attn.qkv", 2),
            "transformer_{j}.attention.projection": "transformer.{j}.attn.proj",
        },
        outside={"stem": "stem", "final": "final_conv"},
    ),
    _hugging_face(
        "mobilevit",
        _HUGGING_FACE_TRANSFORMER
        | _conv_norms(
            "convolution", "normalization", {"local": "conv_kxk", "project_back": "conv_projection", "fuse": "fusion"}
        )
        | {
            "widen.conv": "conv_1x1.convolution",
            "transformer_{j}.attention.query": "transformer.layer.{j}.attention.attention.query",
            "transformer_{j}.attention.key": "transformer.layer.{j}.attention.attention.key",
            "transformer_{j}.attention.value": "transformer.layer.{j}.attention.attention.value",
            "transformer_{j}.attention.projection": "transformer.layer.{j}.attention.output.dense",
            "transformer_{j}.mlp.expand": "transformer.layer.{j}.intermediate.dense",
            "transformer_{j}.mlp.contract": "transformer.layer.{j}.output.dense",
        },
        outside={"stem": "conv_stem", "final": "conv_1x1_exp"},
    ),
)

_V2 = (
    _timm(
        _TIMM_TRANSFORMER
        | _conv_norms("conv", "bn", {"local": "conv_kxk", "project_back": "conv_proj"})
        | _scores_keys_values("transformer.{j}.attn.qkv_proj")
        | {
            "narrow.conv": "conv_1x1",
            "transformer_{j}.attention.projection": "transformer.{j}.attn.out_proj",
        },
        outside={"stem": "stem"},
    ),
    _hugging_face(
        "mobilevitv2",
        _HUGGING_FACE_TRANSFORMER
        | _conv_norms("convolution", "normalization", {"local": "conv_kxk", "project_back": "conv_projection"})
        | _scores_keys_values("transformer.layer.{j}.attention.qkv_proj.convolution")
        | {
            "narrow.conv": "conv_1x1.convolution",
            "transformer_{j}.attention.projection": "transformer.layer.{j}.attention.out_proj.convolution",
            "transformer_{j}.mlp.expand": "transformer.layer.{j}.ffn.conv1.convolution",
            "transformer_{j}.mlp.contract": "transformer.layer.{j}.ffn.conv2.convolution",
        },
        outside={"stem": "conv_stem"},
    ),
)

NAMINGS = (*_V1, *_V2)
