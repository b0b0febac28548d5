"""CPVT: "Conditional Positional Encodings for Vision Transformers" (Chu et al., ICLR 2023, arXiv 2102.10882).

The authors published no code for it; its position encoding is in that of Twins (Meituan-AutoML/Twins, Apache-2.0). The
rest is DeiT.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ClassToken, LayerNorm, PatchEmbedding, TokenPooling, TransformerBlock
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.cpvt.position_generator import TokenPositionGenerator
from keras_vit.models.image_facts import IMAGENET, Statistics


@check_arguments
def CPVT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "cpvt",
    *,
    patch_size: int | tuple[int, int] = 16,
    width: int = 384,
    depth: int = 12,
    num_heads: int = 6,
    mlp_dim: int | None = None,
    class_token: bool = True,
    activation: str = "gelu",
    epsilon: float = 1e-6,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a CPVT (Chu et al., arXiv 2102.10882, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. No weight depends
            on the image size.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: How the tokens are reduced to one vector (batch, width): "token" takes the class token, and "avg" the
            mean of the patches. None means "token" with the top, or "avg" without a class token; without the top, it
            keeps all tokens (batch, tokens, width), the class token first.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of blocks. A position encoding generator follows the first one.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 4 * width by default.
        class_token: Whether there is a class token.
        activation: Activation of the MLPs: "gelu", which is exact, or "gelu_tanh".
        epsilon: Added to the variance in every LayerNorm.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the patch embedding, the attentions' projections and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "block_{i}".

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size, or
            `pooling="token"` without a class token.
    """
    if include_top and pooling is None:
        pooling = "token" if class_token else "avg"
    if pooling == "token" and not class_token:
        raise ValueError("Without a class token, pooling must be 'avg' or None; received 'token'.")
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    patches = PatchEmbedding(width, patch_size, dtype=dtype, name="patch_embedding")
    grid = patches.grid(x.shape)
    x = patches(x)
    if class_token:
        x = ClassToken(0.02, dtype=dtype, name="class_token")(x)
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    for index, rate in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        x = TransformerBlock(
            width,
            num_heads,
            4 * width if mlp_dim is None else mlp_dim,
            activation=activation,
            epsilon=epsilon,
            drop_path_rate=rate,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            dtype=dtype,
            name=f"block_{index}",
        )(x)
        if index == 0:
            x = TokenPositionGenerator(grid, dtype=dtype, name="position")(x)
    if pooling == "token":  # Before the norm: each token is normalized by itself, so the others need not be.
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if pooling == "avg":
        if class_token:
            x = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
