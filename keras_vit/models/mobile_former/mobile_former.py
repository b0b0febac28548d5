"""Mobile-Former: "Mobile-Former: Bridging MobileNet and Transformer" (Chen et al., CVPR 2022, arXiv 2108.05895).

MobileNet's convolutions and a transformer over a few learned tokens run in parallel, with a bridge in each direction.
The models follow the authors' code, AAboys/MobileFormer, which has parts that the paper does not mention: a gate in the
bridge to the tokens, one more bridge to the tokens before the classifier, and the shortcut in the strided block.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ConvNorm, LearnedTokens, TokenPooling
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.mobile_former.channel_shuffle import ChannelShuffle
from keras_vit.models.mobile_former.linear import linear
from keras_vit.models.mobile_former.mobile_bottleneck import LiteBottleneck
from keras_vit.models.mobile_former.mobile_former_block import MobileFormerBlock
from keras_vit.models.mobile_former.mobile_to_former import MobileToFormer

# Blocks of the 294M model after its first one: hidden channels, output channels, strides.
_ROWS = (
    (96, 24, 2), (96, 24, 1), (144, 48, 2), (192, 48, 1), (288, 96, 2), (384, 96, 1), (576, 128, 1), (768, 128, 1),
    (768, 192, 2), (1152, 192, 1), (1152, 192, 1),
)  # fmt: skip


@check_arguments
def MobileFormer(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "mobile_former",
    *,
    stem_channels: int = 16,
    lite_row: tuple[int, int, int] = (32, 16, 1),
    rows: tuple[tuple[int, int, int], ...] = _ROWS,
    groups: int = 1,
    num_tokens: int = 6,
    token_width: int = 192,
    head_width: int = 1920,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a Mobile-Former (Chen et al., arXiv 2108.05895, section 3).

    The outputs of the layers "stem" and "block_0" are feature maps; those of "block_1" and the following blocks are
    (features, tokens).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Any height and width work.
        pooling: Output without the top: None for the feature map of the last block (batch, height / 32, width / 32,
            channels), for detection or segmentation; "avg" for the input of the classifier's first dense layer
            (batch, 6 * channels + token_width), which is the mean of the features, after a convolution to six times
            as many channels, and the first token.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        stem_channels: Channels of the first convolution, which halves the resolution.
        lite_row: Hidden channels, output channels and strides of the first block, which has no tokens.
        rows: Hidden channels, output channels and strides of each Mobile-Former block. In the first block and in those
            with strides of 2, the hidden channels must be a multiple of the input's.
        groups: Number of groups of every pointwise convolution. With more than 1, channels are shuffled between them.
        num_tokens: Number of tokens.
        token_width: Width of a token, a multiple of 4.
        head_width: Units of the classifier's hidden layer.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with ImageNet's
            mean and standard deviation. Pass `Statistics` to normalize with others.
        drop_path_rate: Rate of stochastic depth of the bridge after the last block. The rates of the blocks rise
            linearly to it, from 0 in the first.
        dropout_rate: Dropout rate before the classifier's last layer.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as hidden channels that are not a multiple of the input's.
    """
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    tokens = LearnedTokens(num_tokens, token_width, dtype=dtype, name="tokens")(x)
    x = ConvNorm(stem_channels, 3, 2, activation="relu6", dtype=dtype, name="stem")(x)
    hidden_channels, channels, strides = lite_row
    x = LiteBottleneck(stem_channels, hidden_channels, channels, strides, groups, dtype=dtype, name="block_0")(x)
    _, *block_rates, last_rate = np.linspace(0.0, drop_path_rate, len(rows) + 2).tolist()
    for index, ((hidden_channels, outputs, strides), rate) in enumerate(zip(rows, block_rates, strict=True), 1):
        x, tokens = MobileFormerBlock(
            channels,
            hidden_channels,
            outputs,
            token_width,
            strides,
            groups,
            drop_path_rate=rate,
            dtype=dtype,
            name=f"block_{index}",
        )(x, tokens)
        channels = outputs

    if include_top or pooling == "avg":
        tokens = MobileToFormer(channels, token_width, drop_path_rate=last_rate, dtype=dtype, name="bridge")(x, tokens)
        x = ChannelShuffle(groups, dtype=dtype, name="shuffle")(x)
        x = ConvNorm(6 * channels, groups=groups, activation="relu6", dtype=dtype, name="widen")(x)
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="average")(x)
        x = keras.layers.Activation("hard_silu", dtype=dtype, name="average_activation")(x)
        token = TokenPooling(dtype=dtype, name="token")(tokens)
        x = keras.layers.Concatenate(dtype=dtype, name="pooling")([x, token])
    if include_top:
        x = linear(head_width, dtype, "hidden")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype, name="hidden_norm")(x)
        x = keras.layers.Activation("hard_silu", dtype=dtype, name="hidden_activation")(x)
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
