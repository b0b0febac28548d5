"""ConvNeXt: "A ConvNet for the 2020s" (Liu et al., CVPR 2022, arXiv 2201.03545).

Reference code: facebookresearch/ConvNeXt, MIT license, and timm, which adds the four smallest sizes.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import LayerNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.convnext.convnext_block import EPSILON, ConvNeXtBlock, ConvNeXtDownsample, ConvNeXtStem
from keras_vit.models.image_facts import IMAGENET, Statistics


@check_arguments
def ConvNeXt(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "convnext",
    *,
    channels: tuple[int, ...] = (96, 192, 384, 768),
    depths: tuple[int, ...] = (3, 3, 9, 3),
    mlp_ratio: float = 4,
    kernel_size: int = 7,
    layer_scale: float | None = 1e-6,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a ConvNeXt (Liu et al., arXiv 2201.03545, section 2 and table 9).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Any height and width work that
            leave the last stage at least one pixel: 32 or more with four stages.
        pooling: Output without the top: None for the map of the last stage (batch, height // 32, width // 32,
            channels[-1]), or "avg" for its normalized mean over the pixels (batch, channels[-1]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of each stage.
        depths: Number of blocks of each stage.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the channels.
        kernel_size: Side of the kernels of the depthwise convolutions, odd.
        layer_scale: Initial value of the learned scale of each block, or None for blocks without a scale.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate in the MLPs and before the classifier.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the outputs of their last blocks are feature maps with strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an unknown `pooling`, an even `kernel_size`, or images that are too
            small.
    """
    if len(channels) != len(depths):
        raise ValueError(
            "channels and depths must have a number for each stage; "
            f"received channels={tuple(channels)} and depths={tuple(depths)}."
        )
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise ValueError(f"kernel_size must be a positive odd number; received {kernel_size}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    smallest = 4 * 2 ** (len(depths) - 1)
    if min(images.shape[1:3]) < smallest:
        raise ValueError(
            f"A ConvNeXt of {len(depths)} stages takes images of {smallest} x {smallest} pixels or more; "
            f"received {images.shape[1]} x {images.shape[2]}."
        )
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = ConvNeXtStem(channels[0], dtype=dtype, name="stem")(x)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage, (width, depth) in enumerate(zip(channels, depths, strict=True)):
        if stage:
            x = ConvNeXtDownsample(width, dtype=dtype, name=f"stage_{stage}_downsample")(x)
        for block in range(depth):
            x = ConvNeXtBlock(
                width,
                mlp_ratio,
                kernel_size,
                layer_scale,
                drop_path_rate=next(rates),
                dropout_rate=dropout_rate,
                dtype=dtype,
                name=f"stage_{stage}_block_{block}",
            )(x)
    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pooling")(x)
        x = LayerNorm(EPSILON, dtype=dtype, name="norm")(x)
    if include_top:
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
