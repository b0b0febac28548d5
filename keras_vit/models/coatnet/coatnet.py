"""CoAtNet, "Marrying Convolution and Attention for All Data Sizes" (Dai et al., arXiv 2106.04803).

The authors published no code. This module follows timm's models coatnet_0 to coatnet_5, which have the paper's numbers
of parameters, under Apache-2.0.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ConvNorm, LayerNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.coatnet.coatnet_block import PreNormMBConv, RelativeTransformerBlock
from keras_vit.models.image_facts import HALF, Statistics

_STRIDE = 32


@check_arguments
def CoAtNet(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "coatnet",
    *,
    stem_channels: int = 64,
    channels: tuple[int, ...] = (96, 192, 384, 768),
    depths: tuple[int, ...] = (2, 3, 5, 2),
    head_dim: int = 32,
    expansion: int = 4,
    mlp_ratio: int = 4,
    representation_size: int | None = 768,
    activation: str = "gelu",
    batch_norm_epsilon: float = 1e-5,
    epsilon: float = 1e-6,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a CoAtNet (Dai et al., arXiv 2106.04803, section 2.2).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of 32.
        pooling: Output without the top: None for the last feature map (batch, height / 32, width / 32, channels[-1]),
            or "avg" for its mean over the pixels, normalized (batch, channels[-1]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        stem_channels: Channels of the first two convolutions.
        channels: Channels of the four stages. The first two stages have convolutions, the others attention.
        depths: Number of blocks in each of them.
        head_dim: Width of an attention head, a divisor of the channels of the last two stages.
        expansion: Ratio of the hidden channels of an inverted residual to its output channels.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the channels.
        representation_size: Units of a hidden layer with tanh before the classifier, or None for no hidden layer.
        activation: Activation of the convolutions and MLPs: "gelu", which is exact, or "gelu_tanh".
        batch_norm_epsilon: Added to the variance in every batch normalization.
        epsilon: Added to the variance in every LayerNorm.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the attentions' projections, in the MLPs and before the classifier.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 1 to 4. The outputs of
        the last blocks of the stages are feature maps with strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of 32, or channels that
            `head_dim` does not divide.
    """
    if (len(channels), len(depths)) != (4, 4):
        raise ValueError(
            "channels and depths must have a number for each of the four stages; "
            f"received channels={channels} and depths={depths}."
        )
    if any(count % head_dim for count in channels[2:]):
        raise ValueError(
            f"head_dim must divide the channels of the last two stages; received head_dim={head_dim} and "
            f"channels={channels}."
        )
    images = image_input(input_shape, (224, 224), input_tensor)
    size = images.shape[1:3]
    if any(side % _STRIDE for side in size):
        fits = [max(1, side // _STRIDE) * _STRIDE for side in size]
        raise ValueError(
            f"CoAtNet halves an image five times, so its sides must be multiples of {_STRIDE}; received {size[0]} x "
            f"{size[1]}, and {fits[0]} x {fits[1]} would do."
        )
    x = preprocess(images, include_preprocessing, HALF)
    x = ConvNorm(
        stem_channels, 3, strides=2, activation=activation, epsilon=batch_norm_epsilon, dtype=dtype, name="stem_0"
    )(x)
    x = ConvNorm(stem_channels, 3, norm=False, dtype=dtype, name="stem_1")(x)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage, (width, depth) in enumerate(zip(channels, depths, strict=True), start=1):
        for index in range(depth):
            shared = {
                "strides": 2 if index == 0 else 1,
                "activation": activation,
                "drop_path_rate": next(rates),
                "dtype": dtype,
                "name": f"stage_{stage}_block_{index}",
            }
            if stage <= 2:
                block = PreNormMBConv(width, x.shape[3], expansion=expansion, epsilon=batch_norm_epsilon, **shared)
            else:
                block = RelativeTransformerBlock(
                    x.shape[1:3],
                    width,
                    x.shape[3],
                    width // head_dim,
                    mlp_ratio * width,
                    epsilon=epsilon,
                    dropout_rate=dropout_rate,
                    attention_dropout_rate=attention_dropout_rate,
                    **shared,
                )
            x = block(x)
    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pooling")(x)
        x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if include_top:
        if representation_size is not None:
            x = keras.layers.Dense(representation_size, dtype=dtype, name="pre_logits")(x)
            x = keras.layers.Activation("tanh", dtype=dtype, name="pre_logits_activation")(x)
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
