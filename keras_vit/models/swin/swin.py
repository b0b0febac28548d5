"""Swin Transformer: "Hierarchical Vision Transformer using Shifted Windows" (Liu et al., ICCV 2021, arXiv 2103.14030).

Reference code: microsoft/Swin-Transformer, MIT license. At image sizes whose maps are not multiples of the window, this
module follows the authors' code for dense prediction, because their code for classification does not take these sizes.
"""

import os
from collections.abc import Callable
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import LayerNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, pool_map, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.swin.swin_block import EPSILON, PatchMap, PatchMerging, SwinBlock


@check_arguments
def Swin(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "swin",
    *,
    channels: int = 96,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    num_heads: tuple[int, ...] = (3, 6, 12, 24),
    window: int = 7,
    mlp_ratio: float = 4,
    pad_first: bool = True,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a Swin Transformer (Liu et al., arXiv 2103.14030, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. Position biases
            of another window are resized as the authors do.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Any height and width of at least 4
            times the window work: images that are not a multiple of 4 are padded with zeros, and so are maps that are
            not a multiple of the window.
        pooling: Output without the top: None for the normalized map of the last stage (batch, height / 32, width / 32,
            8 * channels), "avg" or "max" for its mean or maximum over the pixels (batch, 8 * channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of the first stage. Each stage has twice the channels of the one before it.
        depths: Number of blocks of each stage. The maps of every second block are shifted by half a window.
        num_heads: Number of attention heads in each stage.
        window: Side of the windows of the attention. A side of a map that is not larger is one window.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the channels.
        pad_first: Whether maps that are not a multiple of the window are padded before they are shifted, as in the
            authors' code, or after that, as in timm. It makes no difference at other sizes.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the patch embedding and the attentions' projections, in the MLPs and before the
            classifier.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the outputs of their last blocks are feature maps with strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an unknown `pooling`, or a window that is larger than the first map.
    """
    images = image_input(input_shape, (224, 224), input_tensor)

    def block(channels, size, num_heads, stage, **settings):
        return SwinBlock(channels, num_heads, size, window, mlp_ratio=mlp_ratio, pad_first=pad_first, **settings)

    x = preprocess(images, include_preprocessing, IMAGENET)
    x = stages(
        x,
        channels,
        depths,
        num_heads,
        window,
        block,
        lambda channels, size, **settings: PatchMerging(channels, size, **settings),
        drop_path_rate,
        dropout_rate,
        attention_dropout_rate,
        dtype,
    )
    x = head(x, include_top, pooling, classes, classifier_activation, dropout_rate, dtype)
    return finish(images, input_tensor, x, name, weights)


def stages(
    x,
    channels: int,
    depths: tuple[int, ...],
    num_heads: tuple[int, ...],
    window: int,
    block: Callable,
    merging: Callable,
    drop_path_rate: float,
    dropout_rate: float,
    attention_dropout_rate: float,
    dtype,
):
    """Apply the patch embedding and the stages of either version.

    Args:
        x: Images (batch, height, width, channels), normalized.
        channels: Channels of the first stage.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads in each stage.
        window: Side of the windows.
        block: Function (channels, (height, width), num_heads, stage, **settings) that returns a block.
        merging: Function (channels, (height, width), **settings) that returns the layer between two stages.
        drop_path_rate: Rate of stochastic depth of the last block.
        dropout_rate: Dropout rate after the patch embedding, and in the blocks.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy of every layer, or None for the global one.

    Returns:
        The map after the last stage.

    Raises:
        ValueError: `depths` and `num_heads` do not have the same length, or the window is not positive, or it is larger
            than the first map.
    """
    if len(depths) != len(num_heads):
        raise ValueError(
            "depths and num_heads must have a number for each stage; "
            f"received depths={tuple(depths)} and num_heads={tuple(num_heads)}."
        )
    x = PatchMap(channels, x.shape[1:3], dtype=dtype, name="patch_embedding")(x)
    if window < 1 or window > min(x.shape[1:3]):
        raise ValueError(
            f"window must be a positive number that is not larger than the first map, which has {x.shape[1]} x "
            f"{x.shape[2]} pixels; received window={window}. Pass a smaller window or images of "
            f"{4 * max(1, window)} x {4 * max(1, window)} pixels or more."
        )
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="embedding_dropout")(x)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        if stage:
            x = merging(2 * x.shape[3], x.shape[1:3], dtype=dtype, name=f"stage_{stage}_downsample")(x)
        for index in range(depth):
            x = block(
                x.shape[3],
                x.shape[1:3],
                heads,
                stage,
                shifted=index % 2 == 1,
                drop_path_rate=next(rates),
                dropout_rate=dropout_rate,
                attention_dropout_rate=attention_dropout_rate,
                dtype=dtype,
                name=f"stage_{stage}_block_{index}",
            )(x)
    return x


def head(x, include_top, pooling, classes, classifier_activation, dropout_rate, dtype):
    """Normalize the map after the last stage, pool it, and classify it.

    Args:
        x: The map (batch, height, width, channels).
        include_top: Whether the classifier follows, which takes the mean over the pixels.
        pooling: Without the top, "avg", "max", or None to return the map.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        dropout_rate: Dropout rate before the classifier.
        dtype: Keras dtype policy of every layer, or None for the global one.
    """
    x = LayerNorm(EPSILON, dtype=dtype, name="norm")(x)
    x = pool_map(x, "avg" if include_top else pooling, dtype)
    if include_top:
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return x
