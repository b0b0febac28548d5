"""BEiT (Bao et al., arXiv 2106.08254), and BEiT v2 (Peng et al., arXiv 2208.06366), which has the same form.

Reference code: microsoft/unilm, MIT.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ClassToken, LayerNorm, PatchEmbedding, TokenPooling
from keras_vit.models.arguments import check_arguments
from keras_vit.models.beit.token_bias import BEiTBlock
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import HALF, Statistics


@check_arguments
def BEiT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "beit",
    *,
    patch_size: int | tuple[int, int] = 16,
    width: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_dim: int | None = None,
    epsilon: float = 1e-6,
    layer_scale: float = 0.1,
    shared_positions: bool = False,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a BEiT (Bao et al., arXiv 2106.08254).

    Unlike in `ViT`, the tokens have no positions; each block has a bias by relative position in its attention, and
    LayerScale. The classifier takes the mean of the patches.

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: How the tokens are reduced to one vector (batch, width), which is then normalized: "avg" takes the mean
            of the patches, and "token" the class token. None means "avg" with the top; without the top, it keeps all
            tokens (batch, 1 + patches, width), not normalized.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 4 * width by default.
        epsilon: Added to the variance in every LayerNorm.
        layer_scale: Initial value of the LayerScale on each branch.
        shared_positions: Whether all blocks learn a common table of biases, as in the authors' pre-training. When the
            model is saved or copied, each block gets a table of its own with the same values; those after the first
            block are then frozen. What `training.pretrain` saves has a trainable table in each block.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size.
    """
    if include_top and pooling is None:
        pooling = "avg"
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, HALF)
    patches = PatchEmbedding(width, patch_size, dtype=dtype, name="patch_embedding")
    grid = patches.grid(x.shape)
    x = ClassToken(0.02, dtype=dtype, name="class_token")(patches(x))
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    first = None
    for index, rate in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        block = BEiTBlock(
            width,
            num_heads,
            4 * width if mlp_dim is None else mlp_dim,
            grid=grid,
            epsilon=epsilon,
            layer_scale=layer_scale,
            drop_path_rate=rate,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            dtype=dtype,
            name=f"block_{index}",
        )
        if shared_positions and first is not None:
            block.attention.bias.share(first.attention.bias)
        x = block(x)
        first = first or block
    if pooling == "avg":
        x = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    elif pooling == "token":
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    if pooling is not None:
        x = LayerNorm(epsilon, dtype=dtype, name="fc_norm")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
