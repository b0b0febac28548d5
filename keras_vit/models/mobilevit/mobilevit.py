"""MobileViT: "Light-weight, General-purpose, and Mobile-friendly Vision Transformer" (Mehta and Rastegari, 2110.02178).

Reference code: apple/ml-cvnets, and timm, which this module follows. Their outputs are equal except at a few image
sizes: if the number of patches of a map equals the width of its tokens, the LayerNorm of ml-cvnets normalizes over the
wrong axis.

The weights expect images in [0, 1]. Those of the first release, which are also on Hugging Face, expect the channels in
the order blue, green, red; this package does not reorder them.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ConvNorm, MBConv
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import UNIT, Statistics
from keras_vit.models.mobilevit.mobilevit_block import MobileViTBlock


@check_arguments
def MobileViT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "mobilevit",
    *,
    stem_channels: int = 16,
    channels: tuple[int, ...] = (32, 64, 96, 128, 160),
    head_channels: int = 640,
    expansion: int = 4,
    widths: tuple[int, ...] = (144, 192, 240),
    depths: tuple[int, ...] = (2, 4, 3),
    num_heads: int = 4,
    mlp_ratio: int = 2,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a MobileViT (Mehta and Rastegari, arXiv 2110.02178, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (256, 256, 3) by default. Any height and width work.
        pooling: Output without the top: None for the last feature map (batch, height / 32, width / 32, head_channels),
            "avg" or "max" for its mean or maximum over the pixels (batch, head_channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        stem_channels: Channels after the first convolution.
        channels: Channels of the five stages.
        head_channels: Channels after the last convolution.
        expansion: Ratio of the hidden channels of an inverted residual to its input channels.
        widths: Width of a token in the MobileViT blocks, which end stages 3, 4 and 5.
        depths: Number of transformer blocks in each of them.
        num_heads: Number of attention heads in each block.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the width of a token.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [0, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the attentions' projections, in the MLPs and before the classifier.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 1 to 5. The outputs of
        the last blocks of the stages are feature maps with strides 2, 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an unknown `pooling` or too few `channels`.
    """
    images = image_input(input_shape, (256, 256), input_tensor)
    x = preprocess(images, include_preprocessing, UNIT)
    x = ConvNorm(stem_channels, 3, strides=2, activation="silu", dtype=dtype, name="stem")(x)

    def block(x, width, depth, **kwargs):
        return MobileViTBlock(
            x.shape[1:3],
            x.shape[3],
            width,
            depth,
            num_heads,
            mlp_ratio * width,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            **kwargs,
        )(x)

    x = stages(x, channels, (1, 3, 1, 1, 1), expansion, widths, depths, block, drop_path_rate, dtype)
    x = ConvNorm(head_channels, activation="silu", dtype=dtype, name="final")(x)
    x = pooled(x, include_top, pooling, dtype)
    if include_top:
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)


def stages(x, channels, residuals, expansion, widths, depths, block, drop_path_rate, dtype):
    """Apply the five stages of either version.

    A stage has inverted residuals; the last three stages end with a block with transformers.

    Args:
        x: Map (batch, height, width, channels) after the first convolution.
        channels: Channels of each stage.
        residuals: Number of inverted residuals of each stage.
        expansion: Ratio of the hidden channels of an inverted residual to its input channels.
        widths: Width of a token in each of the last three stages.
        depths: Number of transformer blocks in each of the last three stages.
        block: Function (x, width, depth, drop_path_rate, dtype, name) that applies a block with transformers to a map.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dtype: Keras dtype policy of every layer, or None for the global one.

    Returns:
        The map after the last stage, (batch, height / 16, width / 16, channels[-1]).

    Raises:
        ValueError: `channels` does not have five numbers, or `widths` or `depths` does not have three.
    """
    if (len(channels), len(widths), len(depths)) != (5, 3, 3):
        raise ValueError(
            "channels must have a number for each of the five stages, widths and depths for each of the last three; "
            f"received channels={channels}, widths={widths} and depths={depths}."
        )
    rates = iter(np.linspace(0.0, drop_path_rate, sum(residuals) + len(widths)).tolist())
    for stage in range(5):
        for index in range(residuals[stage]):
            x = MBConv(
                channels[stage],
                x.shape[3],
                strides=2 if stage > 0 and index == 0 else 1,
                expansion=expansion,
                activation="silu",
                zero_init=False,
                drop_path_rate=next(rates),
                dtype=dtype,
                name=f"stage_{stage + 1}_block_{index}",
            )(x)
        if stage >= 2:
            name = f"stage_{stage + 1}_block_{residuals[stage]}"
            x = block(x, widths[stage - 2], depths[stage - 2], drop_path_rate=next(rates), dtype=dtype, name=name)
    return x


def pooled(x, include_top, pooling, dtype):
    """Reduce a map (batch, height, width, channels) to a vector (batch, channels), if the top or `pooling` needs it.

    Args:
        x: The map.
        include_top: Whether the classifier follows, which takes the mean over the pixels.
        pooling: Without the top, "avg", "max", or None to return the map.
        dtype: Keras dtype policy, or None for the global one.
    """
    poolings = {None: None, "avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    layer = poolings["avg" if include_top else pooling]
    return x if layer is None else layer(dtype=dtype, name="pooling")(x)
