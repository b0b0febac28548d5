"""MobileViTv2: "Separable Self-attention for Mobile Vision Transformers" (Mehta and Rastegari, arXiv 2206.02680).

Reference code: apple/ml-cvnets and timm. The weights expect images in [0, 1].
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
    """Build a MobileViTv2 (Mehta and Rastegari, arXiv 2206.02680, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (256, 256, 3) by default. Any height and width work.
        pooling: Output without the top: None for the last feature map (batch, height / 32, width / 32, channels[-1]),
            with height and width rounded up to even numbers; "avg" or "max" for its mean or maximum over the pixels
            (batch, channels[-1]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        stem_channels: Channels after the first convolution.
        channels: Channels of the five stages.
        expansion: Ratio of the hidden channels of an inverted residual to its input channels.
        widths: Width of a token in the MobileViTv2 blocks, which end stages 3, 4 and 5.
        depths: Number of transformer blocks in each of them.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the width of a token. The number of
            units is rounded down to a multiple of 16.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [0, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the attentions' projections, in the MLPs and before the classifier.
        attention_dropout_rate: Dropout rate of the attentions' softmax.
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
