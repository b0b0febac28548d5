"""TNT: "Transformer in Transformer" (Han et al., NeurIPS 2021, arXiv 2103.00112).

Reference code: huawei-noah/Efficient-AI-Backbones, tnt_pytorch, and timm, whose model lacks only numbers that the
authors' does not use.
"""

import os
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.layers import ClassToken, LayerNorm, PositionEmbedding, TokenPooling
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import HALF, Statistics
from keras_vit.models.tnt.pixel_embedding import PixelEmbedding
from keras_vit.models.tnt.tnt_block import TNTBlock


@check_arguments
def TNT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "tnt",
    *,
    patch_size: int = 16,
    strides: int = 4,
    width: int = 384,
    pixel_width: int = 24,
    depth: int = 12,
    num_heads: int = 6,
    pixel_heads: int = 4,
    mlp_ratio: int = 4,
    activation: str = "gelu",
    epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a TNT (Han et al., arXiv 2103.00112, section 2).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. The positions of
            patches are resized for other image sizes by bicubic interpolation.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: How the patches are reduced to one vector (batch, width): "token" takes the class token, and "avg" the
            mean of the patches. None means "token" with the top; without the top, it keeps all tokens (batch, 1 +
            patches, width), the class token first.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels of the image.
        strides: Strides of the convolution that embeds the pixels of a patch, so that a patch has
            ceil(patch_size / strides) of them on each side.
        width: Width of a patch.
        pixel_width: Width of a pixel.
        depth: Number of blocks.
        num_heads: Number of attention heads between patches.
        pixel_heads: Number of attention heads between the pixels of a patch.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the width.
        activation: Activation of the MLPs: "gelu", which is exact, or "gelu_tanh".
        epsilon: Added to the variance in every LayerNorm.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first. Between pixels, it drops branches of single patches.
        dropout_rate: Dropout rate after the position embedding, the attentions' projections and both layers of each
            MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "block_{i}", which give the patches and their pixels.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size, or a width
            that its number of heads does not divide.
    """
    if patch_size < 1 or strides < 1:
        raise ValueError(f"patch_size and strides must be positive; received {patch_size} and {strides}.")
    if include_top and pooling is None:
        pooling = "token"
    shared: dict[str, Any] = {
        "pixel_width": pixel_width,
        "width": width,
        "pixel_heads": pixel_heads,
        "num_heads": num_heads,
        "mlp_ratio": mlp_ratio,
        "activation": activation,
        "epsilon": epsilon,
        "dropout_rate": dropout_rate,
        "attention_dropout_rate": attention_dropout_rate,
        "dtype": dtype,
    }
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, HALF)
    embedding = PixelEmbedding(pixel_width, patch_size, strides, dtype=dtype, name="patch_embedding")
    grid = embedding.grid(x.shape)
    pixels = embedding(x)
    x = LayerNorm(epsilon, dtype=dtype, name="patch_norm1")(pixels)
    x = keras.layers.Dense(width, dtype=dtype, name="patch_projection")(x)
    x = LayerNorm(epsilon, dtype=dtype, name="patch_norm2")(x)
    x = ClassToken(0.02, dtype=dtype, name="class_token")(x)
    x = PositionEmbedding(grid, resizing="cubic", dtype=dtype, name="position_embedding")(x)
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    for index, rate in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        x, pixels = TNTBlock(drop_path_rate=rate, name=f"block_{index}", **shared)(x, pixels)
    if pooling == "token":  # Before the norm: each token is normalized by itself, so the others need not be.
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if pooling == "avg":
        x = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
