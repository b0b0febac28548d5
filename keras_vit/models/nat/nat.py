"""NAT: "Neighborhood Attention Transformer" (Hassani et al., CVPR 2023, arXiv 2204.07143), and DiNAT.

DiNAT, "Dilated Neighborhood Attention Transformer" (Hassani and Shi, arXiv 2209.15001), is NAT with dilations in every
second block. Reference code: SHI-Labs/Neighborhood-Attention-Transformer, MIT license.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import LayerNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.nat.nat_block import EPSILON, ConvDownsampler, ConvTokenizer, NATBlock


@check_arguments
def NAT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "nat",
    *,
    channels: int = 64,
    depths: tuple[int, ...] = (3, 4, 6, 5),
    num_heads: tuple[int, ...] = (2, 4, 8, 16),
    kernel_size: int = 7,
    dilations: tuple[int, ...] | None = None,
    mlp_ratio: float = 3,
    layer_scale: float | None = None,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a NAT (Hassani et al., arXiv 2204.07143, section 3.3) or a DiNAT (arXiv 2209.15001, section 3.3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. Position biases
            of another kernel size are resized as the authors do.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. All sizes work: maps that are
            smaller than a neighborhood are padded with zeros.
        pooling: Output without the top: None for the normalized map of the last stage (batch, height / 32, width / 32,
            8 * channels), "avg" or "max" for its mean or maximum over the pixels (batch, 8 * channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of the first stage, an even number. Each stage has twice the channels of the one before it.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads in each stage.
        kernel_size: Side of the neighborhoods, an odd number of 3 or more.
        dilations: For each stage, the dilation of every second block, beginning with the second; the other blocks have
            none. None for no dilation, as in NAT; DiNAT has (8, 4, 2, 1) for images of 224 x 224.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the channels.
        layer_scale: Initial value of the LayerScale on each branch, or None for no LayerScale.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the tokenizer and the attentions' projections, in the MLPs and before the
            classifier.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the outputs of their last blocks are feature maps with strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an even `kernel_size`, or `dilations` for another number of stages.
    """
    dilations = (1,) * len(depths) if dilations is None else dilations
    if not len(depths) == len(num_heads) == len(dilations):
        raise ValueError(
            "depths, num_heads and dilations must have a number for each stage; "
            f"received depths={tuple(depths)}, num_heads={tuple(num_heads)} and dilations={tuple(dilations)}."
        )
    if channels % 2:
        raise ValueError(f"channels must be an even number, which the tokenizer halves; received channels={channels}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = ConvTokenizer(channels, dtype=dtype, name="tokenizer")(x)
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="tokenizer_dropout")(x)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage, (depth, heads, dilation) in enumerate(zip(depths, num_heads, dilations, strict=True)):
        if stage:
            x = ConvDownsampler(2 * x.shape[3], dtype=dtype, name=f"stage_{stage}_downsample")(x)
        for index in range(depth):
            x = NATBlock(
                x.shape[3],
                heads,
                x.shape[1:3],
                kernel_size,
                dilation if index % 2 else 1,
                mlp_ratio,
                layer_scale,
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
