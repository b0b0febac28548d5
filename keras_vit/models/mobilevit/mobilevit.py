"""MobileViT: "Light-weight, General-purpose, and Mobile-friendly Vision Transformer" (Mehta and Rastegari, 2110.02178).

Reference code: apple/ml-cvnets and, with the same outputs at all but a few image sizes, timm, which is followed here:
where a map happens to have as many patches as tokens have channels, ml-cvnets' LayerNorm takes one for the other.

The weights want images in [0, 1]. Those of the first release, which Hugging Face has too, want their channels in the
order blue, green, red; nothing here turns them.
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
    """MobileViT (Mehta and Rastegari, arXiv 2110.02178).

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads.
        input_tensor: A Keras tensor (batch, height, width, channels) to build on, in place of a new input.
        input_shape: (height, width, channels), 256 x 256 x 3 by default. Any size will do.
        pooling: Without the top, None for the last feature map (batch, height / 32, width / 32, head_channels), "avg"
            or "max" for its mean or maximum over the pixels (batch, head_channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None for logits.
        name: Name of the model.
        stem_channels: Channels after the first convolution.
        channels: Channels of the five stages.
        head_channels: Channels after the last convolution.
        expansion: Of the inverted residuals.
        widths: Width of a token in the MobileViT blocks, which end stages 3, 4 and 5.
        depths: Transformer blocks in each of them.
        num_heads: Heads of each attention.
        mlp_ratio: Hidden width of each MLP in widths of a token.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [0, 1] itself.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 in the first.
        dropout_rate: Dropout after the attentions' projections, in the MLPs and before the classifier.
        attention_dropout_rate: Dropout of the attention probabilities.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. "stage_1_block_0" and so on are its layers; the output of a stage's last block is
        its feature map, of stride 2, 4, 8, 16 and 32.
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
    """The five stages of both versions: inverted residuals, and a block with transformers at the end of the last three.

    Args:
        x: The map after the first convolution.
        channels, residuals: Of each stage: its channels and how many inverted residuals it has.
        expansion: Of the inverted residuals.
        widths, depths: Of each of the last three stages: width of a token, number of transformer blocks.
        block: (x, width, depth, drop_path_rate, dtype, name) -> the map after the block with transformers.
        drop_path_rate: Of the last block; it rises linearly from 0 in the first.
        dtype: Of every layer.
    """
    if (len(channels), len(widths), len(depths)) != (5, 3, 3):
        raise ValueError(
            "channels has a number for each of the five stages, widths and depths for each of the last three; received "
            f"channels={channels}, widths={widths} and depths={depths}."
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
    """The map as a vector, as the classifier or `pooling` asks; None leaves it a map."""
    poolings = {None: None, "avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    layer = poolings["avg" if include_top else pooling]
    return x if layer is None else layer(dtype=dtype, name="pooling")(x)
