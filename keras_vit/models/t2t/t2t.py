"""T2T-ViT, the Tokens-to-Token ViT (Yuan et al., ICCV 2021, arXiv 2101.11986).

Reference code: yitu-opensource/T2T-ViT, Clear BSD license.
"""

import os
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.layers import ClassToken, LayerNorm, TokenPooling, TransformerBlock
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.t2t.sinusoid_positions import SinusoidPositions
from keras_vit.models.t2t.tokens_to_token import EPSILON, TokensToToken


@check_arguments
def T2T(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "t2t",
    *,
    width: int = 256,
    depth: int = 7,
    num_heads: int = 4,
    mlp_dim: int | None = None,
    token_width: int = 64,
    tokens_attention: Literal["performer", "transformer"] = "performer",
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    token_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a T2T-ViT (Yuan et al., arXiv 2101.11986, section 3).

    The positions and the random matrices of the performer are fixed. They are weights that are not trained, so they are
    saved and loaded with the others.

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. Positions of
            another image size are resized as the authors do.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of 16.
        pooling: How the tokens are reduced to one vector (batch, width): "token" takes the class token, and "avg" the
            mean of the patches. None means "token" with the top; without the top, it keeps all tokens (batch, 1 +
            patches, width), the class token first.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 2 * width by default.
        token_width: Width of the tokens between the soft splits, an even number.
        tokens_attention: How these tokens attend to each other: "performer", at a cost linear in their number, or
            "transformer", by softmax attention.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with the mean and
            standard deviation of ImageNet. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the positions, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        token_dropout_rate: Dropout rate in the attention between the soft splits, 0.1 in the authors' training with the
            performer.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "block_{i}".

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of 16, or a width that
            `num_heads` does not divide.
    """
    if token_width < 2 or token_width % 2:
        raise ValueError(f"token_width must be a positive even number; received token_width={token_width}.")
    if include_top and pooling is None:
        pooling = "token"
    shared: dict[str, Any] = {
        "width": width,
        "num_heads": num_heads,
        "mlp_dim": 2 * width if mlp_dim is None else mlp_dim,
        "qkv_bias": False,
        "epsilon": EPSILON,
        "dropout_rate": dropout_rate,
        "attention_dropout_rate": attention_dropout_rate,
        "dtype": dtype,
    }
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    tokens = TokensToToken(
        width, x.shape[3], token_width, tokens_attention, token_dropout_rate, dtype=dtype, name="tokens_to_token"
    )
    grid = tokens.grid(x.shape)
    x = ClassToken(0.02, dtype=dtype, name="class_token")(tokens(x))
    x = SinusoidPositions(grid, dtype=dtype, name="position_embedding")(x)
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    for index, rate in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        x = TransformerBlock(drop_path_rate=rate, name=f"block_{index}", **shared)(x)
    if pooling == "token":  # Before the norm: each token is normalized by itself, so the others need not be.
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    x = LayerNorm(EPSILON, dtype=dtype, name="norm")(x)
    if pooling == "avg":
        x = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
