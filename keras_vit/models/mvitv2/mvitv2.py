"""MViTv2: "Improved Multiscale Vision Transformers for Classification and Detection" (Li et al., arXiv 2112.01526).

Reference code: facebookresearch/mvit, Apache-2.0 license.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ConvNorm, LayerNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.mvitv2.mvitv2_block import MViTv2Block
from keras_vit.models.mvitv2.pooling_attention import EPSILON

_KEY_STRIDES = 4  # In the first stage. Each further stage has half as many, down to 1.


@check_arguments
def MViTv2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "mvitv2",
    *,
    channels: int = 96,
    depths: tuple[int, ...] = (1, 2, 5, 2),
    num_heads: int = 1,
    mlp_ratio: float = 4,
    expand_in_attention: bool = True,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build an MViTv2 (Li et al., arXiv 2112.01526, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. Position
            embeddings of another image size are resized by linear interpolation.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. All sizes work.
        pooling: Output without the top: None for the normalized map of the last stage (batch, height / 32, width / 32,
            8 * channels), "avg" or "max" for its mean or maximum over the pixels (batch, 8 * channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of the first stage. Each stage has twice the channels of the one before it.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads in the first stage. Each stage has twice as many as the one before it.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the channels.
        expand_in_attention: Whether the channels double in the attention of the first block of a stage, or in the MLP
            of the last block before it, as in the large size.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the attentions' projections, in the MLPs and before the classifier.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the outputs of their last blocks are feature maps with strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as a number of heads that does not divide the channels.
    """
    if not depths or min(depths) < 1:
        raise ValueError(f"depths must be a positive number of blocks for each stage; received {tuple(depths)}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = ConvNorm(channels, 7, strides=4, use_bias=True, norm=False, dtype=dtype, name="patch_embedding")(x)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage, depth in enumerate(depths):
        for index in range(depth):
            # The large size doubles the channels in the last block before the stage.
            early = not expand_in_attention and index == depth - 1 and stage < len(depths) - 1
            of_stage = channels * 2**stage
            x = MViTv2Block(
                x.shape[3],
                of_stage,
                2 * of_stage if early else of_stage,
                num_heads * 2**stage,
                x.shape[1:3],
                2 if stage and not index else 1,
                max(_KEY_STRIDES // 2**stage, 1),
                mlp_ratio,
                drop_path_rate=next(rates),
                dropout_rate=dropout_rate,
                attention_dropout_rate=attention_dropout_rate,
                dtype=dtype,
                name=f"stage_{stage}_block_{index}",
            )(x)
    x = LayerNorm(EPSILON, dtype=dtype, name="norm")(x)
    poolings = {None: None, "avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    layer = poolings["avg" if include_top else pooling]
    x = x if layer is None else layer(dtype=dtype, name="pooling")(x)
    if include_top:
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
