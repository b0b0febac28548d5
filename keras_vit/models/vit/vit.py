"""ViT: "An Image Is Worth 16x16 Words" (Dosovitskiy et al., arXiv 2010.11929) and its later sizes.

Reference code: google-research/vision_transformer and google-research/big_vision, Apache-2.0.
The sizes B/28, g/14, G/14 and the two narrow ones are from "Scaling Vision Transformers" (Zhai et al., arXiv
2106.04560, table 2), which writes the narrow ones s/28 and s/16; here they are XS28 and XS16.
"""

import os
from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import (
    ClassToken,
    LayerNorm,
    PatchEmbedding,
    PositionEmbedding,
    RegisterTokens,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import HALF, Statistics
from keras_vit.models.vit.attention_pooling import AttentionPooling
from keras_vit.models.vit.shifted_patch_embedding import ShiftedPatchEmbedding


@check_arguments
def ViT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg", "map"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "vit",
    *,
    patch_size: int | tuple[int, int] = 16,
    width: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_dim: int | None = None,
    class_token: bool = True,
    num_registers: int = 0,
    position_embedding: Literal["learned", "sincos2d", "sincos2d_mae"] = "learned",
    position_on_class_token: bool = True,
    norm_after_pooling: bool = False,
    representation_size: int | None = None,
    head_initializer: str = "glorot_uniform",
    qkv_bias: bool = True,
    activation: str = "gelu",
    epsilon: float = 1e-6,
    layer_scale: float | None = None,
    shifted_patches: bool = False,
    locality: bool = False,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Vision Transformer (Dosovitskiy et al., arXiv 2010.11929).

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            another number of classes, the head stays random and a warning says so.
        input_tensor: A Keras tensor (batch, height, width, channels) to build on, in place of a new input.
        input_shape: (height, width, channels), 224 x 224 x 3 by default. The patch divides height and width.
        pooling: What becomes of the tokens: "token" for the class token, "avg" for the mean of the patches, "map" for
            multi-head attention pooling ("Scaling Vision Transformers", section 2.4), each (batch, width). None is
            "token" with the top; without it, all tokens (batch, class token + registers + patches, width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None for logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Heads of each attention.
        mlp_dim: Hidden width of each MLP, 4 * width by default.
        class_token: Whether there is a class token; without it, `pooling` is "avg" or "map".
        num_registers: Register tokens between the class token and the patches, without positions (arXiv 2309.16588).
        position_embedding: "learned", or a fixed table of sines and cosines for the patches: "sincos2d" (big_vision's,
            arXiv 2205.01580) or "sincos2d_mae" (arXiv 2111.06377).
        position_on_class_token: Whether the class token has a learned position too, as in the paper. big_vision and
            DINOv2's registers go without.
        norm_after_pooling: Whether the last LayerNorm stands after the pooling (MAE's and BEiT's fine-tuning).
        representation_size: Width of a hidden tanh layer before the classifier, as in pre-training, or None.
        head_initializer: Of the classifier's kernel. The authors fine-tune from "zeros".
        qkv_bias: Whether query, key and value have a bias.
        activation: Of the MLPs: "gelu" (exact) or "gelu_tanh", the form of the JAX code.
        epsilon: Of every LayerNorm.
        layer_scale: Initial value of a LayerScale on each branch, or None for none.
        shifted_patches: Whether a token sees half a patch further on every side (arXiv 2112.13492, section 3.2), see
            `ShiftedPatchEmbedding`.
        locality: Whether attention learns its temperature and no token looks at itself (section 3.3 there), see
            `MultiHeadAttention`. This and `shifted_patches` are for training on small data sets from a new start.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself, or the
            `Statistics` by which it normalizes them instead.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 in the first.
        dropout_rate: Dropout after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout of the attention probabilities.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.
    """
    if include_top and pooling is None:
        pooling = "token"
    if pooling == "token" and not class_token:
        raise ValueError("Without a class token, pooling is 'avg' or 'map'; received 'token', which is the default.")
    if norm_after_pooling and pooling is None:
        raise ValueError("norm_after_pooling needs a pooling: 'token', 'avg' or 'map'; received None.")
    mlp_dim = 4 * width if mlp_dim is None else mlp_dim

    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, HALF)
    x = embed(
        x,
        width,
        patch_size,
        special_tokens=("class_token",) if class_token else (),
        num_registers=num_registers,
        positions=position_embedding,
        position_on_special_tokens=position_on_class_token,
        shifted_patches=shifted_patches,
        dropout_rate=dropout_rate,
        dtype=dtype,
    )
    x = encode(
        x,
        num_heads,
        mlp_dim,
        drop_path_rates=np.linspace(0.0, drop_path_rate, depth),
        qkv_bias=qkv_bias,
        activation=activation,
        epsilon=epsilon,
        layer_scale=layer_scale,
        locality=locality,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        dtype=dtype,
    )
    if not norm_after_pooling:
        x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if pooling == "map":
        x = AttentionPooling(width, num_heads, mlp_dim, activation, epsilon, dtype=dtype, name="pooling")(x)
    elif pooling is not None:
        x = pool(x, pooling, class_token + num_registers, dtype)
    if norm_after_pooling:
        x = LayerNorm(epsilon, dtype=dtype, name="fc_norm")(x)

    if include_top:
        if representation_size is not None:
            x = keras.layers.Dense(
                representation_size, kernel_initializer="lecun_normal", dtype=dtype, name="pre_logits"
            )(x)
            x = keras.layers.Activation("tanh", dtype=dtype, name="pre_logits_activation")(x)
        x = classifier(x, classes, classifier_activation, dtype, head_initializer)
    return finish(images, input_tensor, x, name, weights)


def embed(
    images: keras.KerasTensor,
    width: int,
    patch_size: int | tuple[int, int],
    *,
    special_tokens: Sequence[str],
    special_token_stddev: float = 0.0,
    num_registers: int = 0,
    positions: str = "learned",
    resizing: str = "linear",
    position_on_special_tokens: bool = True,
    shifted_patches: bool = False,
    dropout_rate: float = 0.0,
    dtype=None,
) -> keras.KerasTensor:
    """Images as tokens with positions: (batch, special tokens + registers + patches, width).

    Args:
        images: (batch, height, width, channels), normalized.
        width: Width of a token.
        patch_size: Side of a patch in pixels, or (height, width).
        special_tokens: Names of the learned tokens in front of the patches, in their order.
        special_token_stddev: Of the distribution they start from.
        num_registers: Register tokens behind the special ones.
        positions: Kind of `PositionEmbedding`.
        resizing: How a table for another image size is resized, see `PositionEmbedding`.
        position_on_special_tokens: Whether these have learned positions too.
        shifted_patches: Whether a token is made of shifted patches too, see `ShiftedPatchEmbedding`.
        dropout_rate: Dropout of the result.
        dtype: A dtype policy, or None for the global one.
    """
    embedding = ShiftedPatchEmbedding if shifted_patches else PatchEmbedding
    patches = embedding(width, patch_size, dtype=dtype, name="patch_embedding")
    add_positions = PositionEmbedding(
        patches.grid(images.shape), positions, resizing, dtype=dtype, name="position_embedding"
    )
    positions_last = position_on_special_tokens and positions == "learned"
    x = patches(images)
    if not positions_last:
        x = add_positions(x)
    for token in reversed(special_tokens):
        x = ClassToken(special_token_stddev, dtype=dtype, name=token)(x)
    if positions_last:
        x = add_positions(x)
    if num_registers:
        x = RegisterTokens(num_registers, len(special_tokens), dtype=dtype, name="register_tokens")(x)
    return keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)


def encode(
    tokens: keras.KerasTensor, num_heads: int, mlp_dim: int, *, drop_path_rates: Sequence[float], **settings
) -> keras.KerasTensor:
    """The blocks, one for each drop path rate; `settings` are further arguments of `TransformerBlock`."""
    for index, rate in enumerate(drop_path_rates):
        tokens = TransformerBlock(
            tokens.shape[-1], num_heads, mlp_dim, drop_path_rate=float(rate), name=f"block_{index}", **settings
        )(tokens)
    return tokens


def pool(tokens: keras.KerasTensor, pooling: str, prefix: int, dtype=None) -> keras.KerasTensor:
    """One vector an image: the first token ("token") or the mean of those behind the first `prefix` ("avg")."""
    if pooling == "token":
        return TokenPooling(dtype=dtype, name="pooling")(tokens)
    if prefix:
        tokens = keras.layers.Cropping1D((prefix, 0), dtype=dtype, name="patch_tokens")(tokens)
    return keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(tokens)
