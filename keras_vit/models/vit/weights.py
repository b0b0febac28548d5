"""The names that published files use for the arrays of ViT, DeiT, DeiT III and DINOv2.

The keys are names of leaf layers in `keras_vit.flatten`, the values their names in the file; {i} is the block's number.
"""

import re

import numpy as np

from keras_vit.weights.layouts import FLAX, PYTORCH
from keras_vit.weights.naming import Naming, Part, half, third, without_first_axis

# The names of DINOv2's authors that are not timm's, with timm's.
_DINOV2_SPELLINGS = (
    (r"^register_tokens$", "reg_token"),
    (r"^(blocks\.\d+\.mlp\.)w12\b", r"\1fc1"),
    (r"^(blocks\.\d+\.mlp\.)w3\b", r"\1fc2"),
)


def _with_timm_names(arrays):
    return {_respelled(name, _DINOV2_SPELLINGS): array for name, array in arrays.items()}


def _respelled(name, spellings):
    for pattern, spelling in spellings:
        name = re.sub(pattern, spelling, name)
    return name


TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "patch_embedding.projection": "patch_embed.proj",
        "class_token": "cls_token",
        "distillation_token": "dist_token",
        "register_tokens": "reg_token",
        "position_embedding": "pos_embed",
        "block_{i}.norm1": "blocks.{i}.norm1",
        "block_{i}.attention.query": third("blocks.{i}.attn.qkv", 0),
        "block_{i}.attention.key": third("blocks.{i}.attn.qkv", 1),
        "block_{i}.attention.value": third("blocks.{i}.attn.qkv", 2),
        "block_{i}.attention.projection": "blocks.{i}.attn.proj",
        "block_{i}.layer_scale1": Part("blocks.{i}.ls1.gamma", is_array=True),
        "block_{i}.norm2": "blocks.{i}.norm2",
        "block_{i}.mlp.expand": "blocks.{i}.mlp.fc1",
        "block_{i}.mlp.contract": "blocks.{i}.mlp.fc2",
        "block_{i}.mlp.gate": half("blocks.{i}.mlp.fc1", 0),
        "block_{i}.mlp.value": half("blocks.{i}.mlp.fc1", 1),
        "block_{i}.layer_scale2": Part("blocks.{i}.ls2.gamma", is_array=True),
        "norm": "norm",
        "pooling.probe": without_first_axis("attn_pool.latent"),
        "pooling.attention.query": "attn_pool.q",
        "pooling.attention.key": half("attn_pool.kv", 0),
        "pooling.attention.value": half("attn_pool.kv", 1),
        "pooling.attention.projection": "attn_pool.proj",
        "pooling.norm": "attn_pool.norm",
        "pooling.mlp.expand": "attn_pool.mlp.fc1",
        "pooling.mlp.contract": "attn_pool.mlp.fc2",
        "fc_norm": "fc_norm",
        "pre_logits": "pre_logits.fc",
        "head": "head",
        "head_dist": "head_dist",
        # The decoder of a masked autoencoder, in the files of MAE's authors.
        "mask_token": "mask_token",
        "decoder_embedding": "decoder_embed",
        "decoder_position_embedding": "decoder_pos_embed",
        "decoder_block_{i}.norm1": "decoder_blocks.{i}.norm1",
        "decoder_block_{i}.attention.query": third("decoder_blocks.{i}.attn.qkv", 0),
        "decoder_block_{i}.attention.key": third("decoder_blocks.{i}.attn.qkv", 1),
        "decoder_block_{i}.attention.value": third("decoder_blocks.{i}.attn.qkv", 2),
        "decoder_block_{i}.attention.projection": "decoder_blocks.{i}.attn.proj",
        "decoder_block_{i}.norm2": "decoder_blocks.{i}.norm2",
        "decoder_block_{i}.mlp.expand": "decoder_blocks.{i}.mlp.fc1",
        "decoder_block_{i}.mlp.contract": "decoder_blocks.{i}.mlp.fc2",
        "decoder_norm": "decoder_norm",
        "decoder_prediction": "decoder_pred",
    },
    may_be_unused=("mask_token",),  # DINOv2's, which only its pre-training uses.
    beside_the_model=("decoder_",),
    unused_without_head=("pre_logits.",),
    respell=_with_timm_names,
)


def _one_hugging_face_spelling(arrays):
    """Remove the prefix of models with a classifier, and use one name for the class token's head."""
    return {
        re.sub(r"^cls_classifier\b", "classifier", re.sub(r"^(vit|deit)\.", "", name)): array
        for name, array in arrays.items()
    }


def _hugging_face(project: str, block: str, within: dict[str, str]) -> Naming:
    return Naming(
        project,
        PYTORCH,
        {
            "patch_embedding.projection": "embeddings.patch_embeddings.projection",
            "class_token": "embeddings.cls_token",
            "distillation_token": "embeddings.distillation_token",
            "position_embedding": "embeddings.position_embeddings",
            "block_{i}.norm1": f"{block}.layernorm_before",
            "block_{i}.norm2": f"{block}.layernorm_after",
            **{f"block_{{i}}.{ours}": f"{block}.{theirs}" for ours, theirs in within.items()},
            "norm": "layernorm",
            "pre_logits": "pooler.dense",
            "head": "classifier",
            "head_dist": "distillation_classifier",
        },
        may_be_unused=("pooler.",),
        respell=_one_hugging_face_spelling,
    )


# What `save_pretrained` writes in every version, and what the state dictionary of a model contains before version 5.
HUGGING_FACE = _hugging_face(
    "Hugging Face",
    "encoder.layer.{i}",
    {
        "attention.query": "attention.attention.query",
        "attention.key": "attention.attention.key",
        "attention.value": "attention.attention.value",
        "attention.projection": "attention.output.dense",
        "mlp.expand": "intermediate.dense",
        "mlp.contract": "output.dense",
    },
)

# What the state dictionary of a model contains in transformers 5.
HUGGING_FACE_5 = _hugging_face(
    "Hugging Face",
    "layers.{i}",
    {
        "attention.query": "attention.q_proj",
        "attention.key": "attention.k_proj",
        "attention.value": "attention.v_proj",
        "attention.projection": "attention.o_proj",
        "mlp.expand": "mlp.fc1",
        "mlp.contract": "mlp.fc2",
    },
)

_TRANSFORMERS_DINOV2_SPELLINGS = (
    (r"^(dinov2|dinov2_with_registers)\.", ""),  # Models with a classifier have this prefix.
    (r"(\.mlp\.)weights_in\b", r"\1fc1"),
    (r"(\.mlp\.)weights_out\b", r"\1fc2"),
)

# transformers' DINOv2, with and without registers.
HUGGING_FACE_DINOV2 = Naming(
    "Hugging Face",
    PYTORCH,
    {
        "patch_embedding.projection": "embeddings.patch_embeddings.projection",
        "class_token": "embeddings.cls_token",
        "register_tokens": "embeddings.register_tokens",
        "position_embedding": "embeddings.position_embeddings",
        "block_{i}.norm1": "encoder.layer.{i}.norm1",
        "block_{i}.attention.query": "encoder.layer.{i}.attention.attention.query",
        "block_{i}.attention.key": "encoder.layer.{i}.attention.attention.key",
        "block_{i}.attention.value": "encoder.layer.{i}.attention.attention.value",
        "block_{i}.attention.projection": "encoder.layer.{i}.attention.output.dense",
        "block_{i}.layer_scale1": Part("encoder.layer.{i}.layer_scale1.lambda1", is_array=True),
        "block_{i}.norm2": "encoder.layer.{i}.norm2",
        "block_{i}.mlp.expand": "encoder.layer.{i}.mlp.fc1",
        "block_{i}.mlp.contract": "encoder.layer.{i}.mlp.fc2",
        "block_{i}.mlp.gate": half("encoder.layer.{i}.mlp.fc1", 0),
        "block_{i}.mlp.value": half("encoder.layer.{i}.mlp.fc1", 1),
        "block_{i}.layer_scale2": Part("encoder.layer.{i}.layer_scale2.lambda1", is_array=True),
        "norm": "layernorm",
        "head": "classifier",
    },
    may_be_unused=("embeddings.mask_token",),
    respell=lambda arrays: {_respelled(name, _TRANSFORMERS_DINOV2_SPELLINGS): array for name, array in arrays.items()},
)

# Replacements that turn older names into big_vision's, in this order. The first release numbered all modules of a block
# together; later ones number each kind separately.
_GOOGLE_SPELLINGS = (
    (r"^Transformer/(posembed_input/)?pos_embedding$", "pos_embedding"),
    (r"^(probe$|(MultiHeadDotProductAttention_0|LayerNorm_0|MlpBlock_0)/)", r"MAPHead_0/\1"),
    (r"(/encoderblock(_\d+)?/)MultiHeadDotProductAttention_1/", r"\1MultiHeadDotProductAttention_0/"),
    (r"(/encoderblock(_\d+)?/)LayerNorm_2/", r"\1LayerNorm_1/"),
    (r"(/encoderblock(_\d+)?/)MlpBlock_3/", r"\1MlpBlock_0/"),
)
# Prefixes of the model in a file with more in it: an image-text model, a training state, or one with its optimizer.
_GOOGLE_PREFIXES = ("params/img/", "params/", "opt/target/")
_SCANNED = "Transformer/encoderblock/"


def _one_google_spelling(arrays):
    prefix = next((prefix for prefix in _GOOGLE_PREFIXES if any(name.startswith(prefix) for name in arrays)), "")
    respelled = {}
    for name, array in arrays.items():
        name = _respelled(name.removeprefix(prefix), _GOOGLE_SPELLINGS)
        if name.startswith(_SCANNED):  # The blocks are stacked along the first axis.
            for index, layer in enumerate(np.atleast_1d(array)):
                respelled[f"Transformer/encoderblock_{index}/{name.removeprefix(_SCANNED)}"] = layer
        else:
            respelled[name] = array
    return respelled


GOOGLE = Naming(
    "Google",
    FLAX,
    {
        "patch_embedding.projection": "embedding",
        "class_token": "cls",
        "position_embedding": "pos_embedding",
        "block_{i}.norm1": "Transformer/encoderblock_{i}/LayerNorm_0",
        "block_{i}.attention.query": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_0/query",
        "block_{i}.attention.key": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_0/key",
        "block_{i}.attention.value": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_0/value",
        "block_{i}.attention.projection": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_0/out",
        "block_{i}.norm2": "Transformer/encoderblock_{i}/LayerNorm_1",
        "block_{i}.mlp.expand": "Transformer/encoderblock_{i}/MlpBlock_0/Dense_0",
        "block_{i}.mlp.contract": "Transformer/encoderblock_{i}/MlpBlock_0/Dense_1",
        "norm": "Transformer/encoder_norm",
        "pooling.probe": without_first_axis("MAPHead_0/probe"),
        "pooling.attention.query": "MAPHead_0/MultiHeadDotProductAttention_0/query",
        "pooling.attention.key": "MAPHead_0/MultiHeadDotProductAttention_0/key",
        "pooling.attention.value": "MAPHead_0/MultiHeadDotProductAttention_0/value",
        "pooling.attention.projection": "MAPHead_0/MultiHeadDotProductAttention_0/out",
        "pooling.norm": "MAPHead_0/LayerNorm_0",
        "pooling.mlp.expand": "MAPHead_0/MlpBlock_0/Dense_0",
        "pooling.mlp.contract": "MAPHead_0/MlpBlock_0/Dense_1",
        "pre_logits": "pre_logits",
        "head": "head",
    },
    may_be_unused=("opt/", "params/", "extra/"),
    unused_without_head=("pre_logits/",),
    respell=_one_google_spelling,
)

NAMINGS = (TIMM, HUGGING_FACE, HUGGING_FACE_5, HUGGING_FACE_DINOV2, GOOGLE)
