"""Vision Transformer, "An Image Is Worth 16x16 Words" (Dosovitskiy et al., arXiv 2010.11929), and its later sizes.

Reference code: google-research/vision_transformer and google-research/big_vision, Apache-2.0.
The sizes B/28, g/14, G/14 and the two narrow ones are from "Scaling Vision Transformers" (Zhai et al., arXiv
2106.04560, table 2), which calls the narrow ones s/28 and s/16; here they are XS28 and XS16.
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
    position_resizing: Literal["linear", "half_pixel_linear", "cubic", "cubic_offset", "cubic_antialiased"] = "linear",
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
    """Build a Vision Transformer (Dosovitskiy et al., arXiv 2010.11929).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: How the tokens are reduced to one vector (batch, width): "token" takes the class token, "avg" the mean
            of the patches, and "map" multi-head attention pooling ("Scaling Vision Transformers", section 2.4). None
            means "token" with the top; without the top, it keeps all tokens (batch, class token + registers + patches,
            width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 4 * width by default.
        class_token: Whether there is a class token. Without it, `pooling` must be "avg" or "map".
        num_registers: Number of register tokens (Darcet et al., arXiv 2309.16588). They come between the class token
            and the patches, and have no position.
        position_embedding: "learned", or a fixed table of sines and cosines for the patches: "sincos2d" (big_vision's,
            arXiv 2205.01580) or "sincos2d_mae" (arXiv 2111.06377).
        position_resizing: How a position table for another image size is resized when weights are loaded, see
            `keras_vit.layers.resize_positions`. DINO's authors use "cubic_offset", and MAE's use "cubic".
        position_on_class_token: Whether the class token has a learned position too, as in the paper; in big_vision and
            in DINOv2 with registers it has none.
        norm_after_pooling: Whether the last LayerNorm follows the pooling, as in the fine-tuning of MAE and BEiT.
        representation_size: Units of a hidden layer with tanh before the classifier, as in pre-training, or None for
            no hidden layer.
        head_initializer: Initializer of the classifier's kernel. The authors use "zeros" for fine-tuning.
        qkv_bias: Whether query, key and value have a bias.
        activation: Activation of the MLPs: "gelu", which is exact, or "gelu_tanh", the approximation of the JAX code.
        epsilon: Added to the variance in every LayerNorm.
        layer_scale: Initial value of the LayerScale on each branch; None for no LayerScale.
        shifted_patches: Whether each token also covers half a patch on every side of its own patch (shifted patch
            tokenization, arXiv 2112.13492, section 3.2); see `ShiftedPatchEmbedding`.
        locality: Whether the attention learns its temperature and no token attends to itself (locality self-attention,
            arXiv 2112.13492, section 3.3); see `MultiHeadAttention`. `locality` and `shifted_patches` are for training
            from scratch on small data sets.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size, a width that
            `num_heads` does not divide, or `pooling="token"` without a class token.
    """
    if include_top and pooling is None:
        pooling = "token"
    if pooling == "token" and not class_token:
        raise ValueError(
            "Without a class token, pooling must be 'avg' or 'map'; received 'token', which is the default."
        )
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
        resizing=position_resizing,
        position_on_special_tokens=position_on_class_token,
        shifted_patches=shifted_patches,
        dropout_rate=dropout_rate,
        dtype=dtype,
    )
    x = encode(
        x,
        num_heads,
        mlp_dim,
        drop_path_rates=np.linspace(0.0, drop_path_rate, depth).tolist(),
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
    """Split images into patches and return them as tokens with positions, after the special tokens.

    Args:
        images: (batch, height, width, channels), normalized.
        width: Width of a token.
        patch_size: Side of a patch in pixels, or (height, width).
        special_tokens: Names of the learned tokens before the patches, in order.
        special_token_stddev: Standard deviation of their initial values.
        num_registers: Number of register tokens after the special ones.
        positions: Kind of `PositionEmbedding`.
        resizing: How a table for another image size is resized, as in `PositionEmbedding`.
        position_on_special_tokens: Whether the special tokens have learned positions too.
        shifted_patches: Whether each patch is embedded with its surroundings, as in `ShiftedPatchEmbedding`.
        dropout_rate: Dropout rate of the tokens.
        dtype: Keras dtype policy, or None for the global one.

    Returns:
        Tokens (batch, special tokens + registers + patches, width).
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
    tokens: keras.KerasTensor,
    num_heads: int,
    mlp_dim: int,
    *,
    drop_path_rates: Sequence[float],
    block: type[TransformerBlock] = TransformerBlock,
    **settings,
) -> keras.KerasTensor:
    """Pass tokens through the transformer blocks.

    Args:
        tokens: (batch, tokens, width).
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP.
        drop_path_rates: Rate of stochastic depth of each block; its length is the number of blocks.
        block: Class of the blocks.
        settings: Further arguments of the blocks.

    Returns:
        Tokens (batch, tokens, width).
    """
    for index, rate in enumerate(drop_path_rates):
        tokens = block(
            tokens.shape[-1], num_heads, mlp_dim, drop_path_rate=float(rate), name=f"block_{index}", **settings
        )(tokens)
    return tokens


def pool(tokens: keras.KerasTensor, pooling: str, prefix: int, dtype=None) -> keras.KerasTensor:
    """Reduce the tokens of each image to one vector.

    Args:
        tokens: (batch, tokens, width).
        pooling: "token" for the first token, or "avg" for the mean of the tokens after the first `prefix`.
        prefix: Number of tokens before the patches.
        dtype: Keras dtype policy, or None for the global one.

    Returns:
        (batch, width).
    """
    if pooling == "token":
        return TokenPooling(dtype=dtype, name="pooling")(tokens)
    if prefix:
        tokens = keras.layers.Cropping1D((prefix, 0), dtype=dtype, name="patch_tokens")(tokens)
    return keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(tokens)
