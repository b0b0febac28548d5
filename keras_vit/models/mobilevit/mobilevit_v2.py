"""MobileViTv2: "Separable Self-attention for Mobile Vision Transformers" (Mehta and Rastegari, arXiv 2206.02680).

Reference code: apple/ml-cvnets and timm. The weights want images in [0, 1].
"""

import os
from typing import Literal

import keras

from keras_vit.layers import ConvNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import UNIT, Statistics
from keras_vit.models.mobilevit.mobilevit import pooled, stages
from keras_vit.models.mobilevit.mobilevit_v2_block import MobileViTV2Block


@check_arguments
def MobileViTV2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "mobilevitv2",
    *,
    stem_channels: int = 32,
    channels: tuple[int, ...] = (64, 128, 256, 384, 512),
    expansion: int = 2,
    widths: tuple[int, ...] = (128, 192, 256),
    depths: tuple[int, ...] = (2, 4, 3),
    mlp_ratio: int = 2,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """MobileViTv2 (Mehta and Rastegari, arXiv 2206.02680).

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads.
        input_tensor: A Keras tensor (batch, height, width, channels) to build on, in place of a new input.
        input_shape: (height, width, channels), 256 x 256 x 3 by default. Any size will do.
        pooling: Without the top, None for the last feature map (batch, height / 32, width / 32, channels), its sides
            rounded up to even ones; "avg" or "max" for its mean or maximum over the pixels (batch, channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None for logits.
        name: Name of the model.
        stem_channels: Channels after the first convolution.
        channels: Channels of the five stages.
        expansion: Of the inverted residuals.
        widths: Width of a token in the MobileViTv2 blocks, which end stages 3, 4 and 5.
        depths: Transformer blocks in each of them.
        mlp_ratio: Hidden width of each MLP in widths of a token; it is rounded down to a multiple of 16.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [0, 1] itself.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 in the first.
        dropout_rate: Dropout after the attentions' projections, in the MLPs and before the classifier.
        attention_dropout_rate: Dropout of the attentions' softmax.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. "stage_1_block_0" and so on are its layers; the output of a stage's last block is
        its feature map, of stride 2, 4, 8, 16 and 32.
    """
    images = image_input(input_shape, (256, 256), input_tensor)
    x = preprocess(images, include_preprocessing, UNIT)
    x = ConvNorm(stem_channels, 3, strides=2, activation="silu", dtype=dtype, name="stem")(x)

    def block(x, width, depth, **kwargs):
        return MobileViTV2Block(
            x.shape[1:3],
            x.shape[3],
            width,
            depth,
            mlp_ratio * width // 16 * 16,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            **kwargs,
        )(x)

    x = stages(x, channels, (1, 2, 1, 1, 1), expansion, widths, depths, block, drop_path_rate, dtype)
    x = pooled(x, include_top, pooling, dtype)
    if include_top:
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
