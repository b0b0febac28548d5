"""PVT v2: "Improved Baselines with Pyramid Vision Transformer" (Wang et al., CVMJ 2022, arXiv 2106.13797).

Reference code: whai362/PVT, Apache-2.0.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import LayerNorm
from keras_vit.layers.conv_embedding import ConvEmbedding
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import check_stages, classifier, finish, image_input, pool_map, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.pvt.depthwise_mlp import PVTv2Block


@check_arguments
def PVTv2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "pvtv2",
    *,
    channels: tuple[int, ...] = (64, 128, 320, 512),
    depths: tuple[int, ...] = (3, 4, 6, 3),
    num_heads: tuple[int, ...] = (1, 2, 5, 8),
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4),
    reductions: tuple[int, ...] = (8, 4, 2, 1),
    pooled_side: int | None = None,
    epsilon: float = 1e-6,
    embedding_epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a Pyramid Vision Transformer, version 2 (Wang et al., arXiv 2106.13797, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. No weight depends
            on the image size.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Any size works whose maps are not
            smaller than the reduction of their stage.
        pooling: Output without the top: None for the normalized map of the last stage (batch, height / 32, width / 32,
            channels[-1]), "avg" or "max" for its mean or maximum over the pixels (batch, channels[-1]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of each stage. The first stage begins with a 7 x 7 convolution with strides of 4, and each
            other one with a 3 x 3 convolution with strides of 2.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads in each stage.
        mlp_ratios: For each stage, the ratio of the units between the two dense layers of an MLP to the channels.
        reductions: For each stage, how many times the map of keys and values is smaller on each side.
        pooled_side: Side of the map of averages that replaces the reductions, 7 in the paper's linear attention; the
            MLPs then have a ReLU before their convolution. None for the reductions.
        epsilon: Added to the variance in every LayerNorm of a block, and at the end of a stage.
        embedding_epsilon: Added to the variance in the LayerNorms of patch embeddings and reduced maps.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the attentions' projections and in the MLPs.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the outputs of their last blocks are feature maps with strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an unknown `pooling`, channels that `num_heads` does not divide, or
            an image that is too small for the reductions.
    """
    stages = check_stages(
        channels=channels, depths=depths, num_heads=num_heads, mlp_ratios=mlp_ratios, reductions=reductions
    )
    if pooled_side is not None and pooled_side < 1:
        raise ValueError(f"pooled_side must be a positive integer or None; received {pooled_side}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage in range(stages):
        width, place = channels[stage], f"stage_{stage}"
        convolution = {"kernel_size": 3, "strides": 2, "padding": 1}
        if stage == 0:
            convolution = {"kernel_size": 7, "strides": 4, "padding": 3}
        x = ConvEmbedding(width, **convolution, epsilon=embedding_epsilon, dtype=dtype, name=f"{place}_embedding")(x)
        for index in range(depths[stage]):
            x = PVTv2Block(
                width,
                num_heads[stage],
                mlp_ratios[stage] * width,
                reductions[stage],
                pooled_side,
                epsilon=epsilon,
                reduction_epsilon=embedding_epsilon,
                drop_path_rate=next(rates),
                dropout_rate=dropout_rate,
                attention_dropout_rate=attention_dropout_rate,
                dtype=dtype,
                name=f"{place}_block_{index}",
            )(x)
        x = LayerNorm(epsilon, dtype=dtype, name=f"{place}_norm")(x)
    x = pool_map(x, "avg" if include_top else pooling, dtype)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
