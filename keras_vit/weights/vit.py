"""Where the arrays of a ViT stand in the files that people publish.

Left the leaf layer of `keras_vit.flatten`, right the file's name for it; {i} is the block's number.
"""

from keras_vit.weights.layouts import FLAX, PYTORCH
from keras_vit.weights.naming import Naming, third

TIMM = Naming(
    "timm",
    PYTORCH,
    {
        "patch_embedding.projection": "patch_embed.proj",
        "class_token": "cls_token",
        "position_embedding": "pos_embed",
        "block_{i}.norm1": "blocks.{i}.norm1",
        "block_{i}.attention.query": third("blocks.{i}.attn.qkv", 0),
        "block_{i}.attention.key": third("blocks.{i}.attn.qkv", 1),
        "block_{i}.attention.value": third("blocks.{i}.attn.qkv", 2),
        "block_{i}.attention.projection": "blocks.{i}.attn.proj",
        "block_{i}.norm2": "blocks.{i}.norm2",
        "block_{i}.mlp.expand": "blocks.{i}.mlp.fc1",
        "block_{i}.mlp.contract": "blocks.{i}.mlp.fc2",
        "norm": "norm",
        "pre_logits": "pre_logits.fc",
        "head": "head",
    },
    may_be_unused=("pre_logits.",),
)

HUGGING_FACE = Naming(
    "Hugging Face",
    PYTORCH,
    {
        "patch_embedding.projection": "vit.embeddings.patch_embeddings.projection",
        "class_token": "vit.embeddings.cls_token",
        "position_embedding": "vit.embeddings.position_embeddings",
        "block_{i}.norm1": "vit.encoder.layer.{i}.layernorm_before",
        "block_{i}.attention.query": "vit.encoder.layer.{i}.attention.attention.query",
        "block_{i}.attention.key": "vit.encoder.layer.{i}.attention.attention.key",
        "block_{i}.attention.value": "vit.encoder.layer.{i}.attention.attention.value",
        "block_{i}.attention.projection": "vit.encoder.layer.{i}.attention.output.dense",
        "block_{i}.norm2": "vit.encoder.layer.{i}.layernorm_after",
        "block_{i}.mlp.expand": "vit.encoder.layer.{i}.intermediate.dense",
        "block_{i}.mlp.contract": "vit.encoder.layer.{i}.output.dense",
        "norm": "vit.layernorm",
        "pre_logits": "vit.pooler.dense",
        "head": "classifier",
    },
    may_be_unused=("vit.pooler.",),
)

GOOGLE = Naming(
    "Google",
    FLAX,
    {
        "patch_embedding.projection": "embedding",
        "class_token": "cls",
        "position_embedding": "Transformer/posembed_input/pos_embedding",
        "block_{i}.norm1": "Transformer/encoderblock_{i}/LayerNorm_0",
        "block_{i}.attention.query": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/query",
        "block_{i}.attention.key": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/key",
        "block_{i}.attention.value": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/value",
        "block_{i}.attention.projection": "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/out",
        "block_{i}.norm2": "Transformer/encoderblock_{i}/LayerNorm_2",
        "block_{i}.mlp.expand": "Transformer/encoderblock_{i}/MlpBlock_3/Dense_0",
        "block_{i}.mlp.contract": "Transformer/encoderblock_{i}/MlpBlock_3/Dense_1",
        "norm": "Transformer/encoder_norm",
        "pre_logits": "pre_logits",
        "head": "head",
    },
    may_be_unused=("pre_logits/",),
)

NAMINGS = (TIMM, HUGGING_FACE, GOOGLE)
