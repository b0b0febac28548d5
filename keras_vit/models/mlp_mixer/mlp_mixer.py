"""MLP-Mixer, "An all-MLP Architecture for Vision" (Tolstikhin et al., arXiv 2105.01601).

Reference code: google-research/vision_transformer, Apache-2.0.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import LayerNorm, PatchEmbedding
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import HALF, Statistics
from keras_vit.models.mlp_mixer.mixer_block import MixerBlock


@check_arguments
def MLPMixer(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "mlp_mixer",
    *,
    patch_size: int | tuple[int, int] = 16,
    width: int = 768,
    depth: int = 12,
    token_mlp_dim: int = 384,
    channel_mlp_dim: int = 3072,
    activation: str = "gelu",
    epsilon: float = 1e-6,
    head_initializer: str = "glorot_uniform",
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build an MLP-Mixer (Tolstikhin et al., arXiv 2105.01601, section 2).

    Its weights depend on the number of patches, so published weights fit only images of their own size.

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: Output without the top: None for all tokens (batch, patches, width), or "avg" for their mean (batch,
            width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of blocks.
        token_mlp_dim: Units between the two dense layers of the MLPs over the tokens.
        channel_mlp_dim: Units between the two dense layers of the MLPs over the channels.
        activation: Activation of the MLPs: "gelu", which is exact, as in timm, or "gelu_tanh", the approximation of the
            authors' JAX code.
        epsilon: Added to the variance in every LayerNorm.
        head_initializer: Initializer of the classifier's kernel. The authors use "zeros".
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate in the MLPs and before the classifier.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "block_{i}".

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size.
    """
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, HALF)
    x = PatchEmbedding(width, patch_size, dtype=dtype, name="patch_embedding")(x)
    for index, rate in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        x = MixerBlock(
            x.shape[1],
            width,
            token_mlp_dim,
            channel_mlp_dim,
            activation,
            epsilon,
            drop_path_rate=rate,
            dropout_rate=dropout_rate,
            dtype=dtype,
            name=f"block_{index}",
        )(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype, head_initializer)
    return finish(images, input_tensor, x, name, weights)
