"""Mobile-Former: "Mobile-Former: Bridging MobileNet and Transformer" (Chen et al., CVPR 2022, arXiv 2108.05895).

A stack of MobileNet's convolutions beside a transformer over a few learned tokens, with a bridge in each direction.
The models are those of the authors' code, AAboys/MobileFormer, which has parts that the paper does not speak of: a gate
in the bridge to the tokens, a last such bridge before the classifier, and the shortcut in the strided block.
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
    """Mobile-Former (Chen et al., arXiv 2108.05895).

    The feature maps stand behind the layers "stem" and "block_0", "block_1" and so on; a block from 1 on gives
    (features, tokens).

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads.
        input_tensor: A Keras tensor (batch, height, width, channels) to build on, in place of a new input.
        input_shape: (height, width, channels), 224 x 224 x 3 by default. Any size will do.
        pooling: Without the top, None for the last block's feature map (batch, height / 32, width / 32, channels),
            which a detector or segmenter starts from, or "avg" for the vector that the classifier's first dense
            layer reads: the averaged features, widened six times, and the first token, (batch, 6 * channels +
            token_width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None for logits.
        name: Name of the model.
        stem_channels: Channels of the first convolution, which halves the resolution.
        lite_row: Expanded channels, output channels and strides of the first block, which has no tokens.
        rows: The same of each Mobile-Former block behind it. Expanded channels are a multiple of the input's in the
            first block and where the strides are 2.
        groups: Of every pointwise convolution. Above 1, channels are shuffled between them.
        num_tokens: Number of tokens.
        token_width: Width of a token, a multiple of 4.
        head_width: Width of the classifier's hidden layer.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them by ImageNet's statistics
            itself.
        drop_path_rate: Stochastic depth behind the last block; it rises linearly with the block's number from 0.
        dropout_rate: Dropout before the classifier's last layer.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.
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
