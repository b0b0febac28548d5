"""EfficientViT of MIT, whose attention is linear in the pixels (Cai et al., arXiv 2205.14756).

Reference code: mit-han-lab/efficientvit, Apache-2.0.
"""

import os
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.layers import BasicConv, ConvNorm, DepthwiseSeparableConv, FusedMBConv, LayerNorm, MBConv
from keras_vit.layers.activations import activation_layer
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.efficientvit.efficientvit_block import EfficientViTBlock
from keras_vit.models.image_facts import IMAGENET, Statistics


@dataclass(frozen=True)
class _Stage:
    """The blocks of a stage: one that halves the resolution, then blocks that keep it.

    Attributes:
        first: The block with stride 2.
        first_expansion: Expansion of the first block.
        block: The blocks after the first.
        expansion: Expansion of the blocks after the first.
        fewer_norm: Whether the first convolutions of a block have a bias instead of a normalization.
        first_is_counted: Whether the published depth includes the first block.
    """

    first: type
    first_expansion: int
    block: type
    expansion: int
    fewer_norm: bool = False
    first_is_counted: bool = False


@dataclass(frozen=True)
class _Series:
    stem: type
    stages: tuple[_Stage, ...]
    activation: str
    epsilon: float


_SERIES = {
    "B": _Series(
        DepthwiseSeparableConv,
        (
            _Stage(MBConv, 4, MBConv, 4, first_is_counted=True),
            _Stage(MBConv, 4, MBConv, 4, first_is_counted=True),
            _Stage(MBConv, 4, EfficientViTBlock, 4, fewer_norm=True),
            _Stage(MBConv, 4, EfficientViTBlock, 4, fewer_norm=True),
        ),
        "hard_swish",
        1e-5,
    ),
    "L": _Series(
        BasicConv,
        (
            _Stage(FusedMBConv, 16, FusedMBConv, 4),
            _Stage(FusedMBConv, 16, FusedMBConv, 4),
            _Stage(MBConv, 16, MBConv, 4, fewer_norm=True),
            _Stage(MBConv, 24, EfficientViTBlock, 6, fewer_norm=True),
        ),
        "gelu_tanh",
        1e-7,
    ),
}


@check_arguments
def EfficientViT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "efficientvit",
    *,
    series: Literal["B", "L"] = "B",
    channels: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256),
    depths: tuple[int, int, int, int, int] = (1, 2, 3, 3, 4),
    head_dim: int = 16,
    head_channels: tuple[int, int] = (1536, 1600),
    epsilon: float | None = None,
    attention_epsilon: float = 1e-15,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build an EfficientViT of MIT (Cai et al., arXiv 2205.14756, section 3).

    The outputs of the layers "stem" and "stem_block_{j}" are feature maps with stride 2, those of "stage_{i}_block_{j}"
    maps with strides 4, 8, 16 and 32 (i from 0 to 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Any height and width work.
        pooling: Output without the top: None for the map of the last stage (batch, height / 32, width / 32,
            channels[4]), or "avg" for its mean over the pixels (batch, channels[4]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        series: "B", with inverted residuals and hard swish, or "L", the larger models for GPUs, with fused inverted
            residuals in the first stages and the tanh approximation of GELU.
        channels: Channels of the stem and of the four stages.
        depths: Number of blocks of the stem and of the four stages, counted as in the authors' code: the block that
            halves the resolution counts only in the first two stages of series B.
        head_dim: Channels of an attention head; it must divide the channels of every stage with attention.
        head_channels: Channels of the head's convolution and units of its dense layer.
        epsilon: Added to the variance in every normalization; by default 1e-5 in series B and 1e-7 in series L.
        attention_epsilon: Added to the divisor of the linear attention. The authors use 1e-15, timm 1e-5.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with ImageNet's
            mean and standard deviation. Pass `Statistics` to normalize with others.
        drop_path_rate: Rate of stochastic depth of the last block. The rates rise linearly from 0 in the first block
            that keeps the resolution; the stem and the blocks that halve the resolution have none.
        dropout_rate: Dropout rate before the classifier.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an unknown `series` or `depths` without five numbers.
    """
    if len(channels) != 5 or len(depths) != 5:
        raise ValueError(
            "channels and depths must have five numbers, for the stem and the four stages; "
            f"received channels={tuple(channels)} and depths={tuple(depths)}."
        )
    design = _SERIES[series]
    shared: dict[str, Any] = {
        "activation": design.activation,
        "epsilon": design.epsilon if epsilon is None else epsilon,
        "dtype": dtype,
    }
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = ConvNorm(channels[0], 3, strides=2, **shared, name="stem")(x)
    for block in range(depths[0]):
        x = design.stem(channels[0], channels[0], **shared, name=f"stem_block_{block}")(x)

    repeats = [depth - stage.first_is_counted for stage, depth in zip(design.stages, depths[1:], strict=True)]
    drop_path = iter(np.linspace(0.0, drop_path_rate, sum(repeats)).tolist())
    for index, (stage, width, depth) in enumerate(zip(design.stages, channels[1:], repeats, strict=True)):
        x = stage.first(
            width,
            x.shape[-1],
            strides=2,
            expansion=stage.first_expansion,
            fewer_norm=stage.fewer_norm,
            **shared,
            name=f"stage_{index}_block_0",
        )(x)
        own: dict[str, Any] = {"expansion": stage.expansion, **shared}
        if stage.block is EfficientViTBlock:
            own |= {"head_dim": head_dim, "attention_epsilon": attention_epsilon}
        else:
            own |= {"input_channels": width, "fewer_norm": stage.fewer_norm}
        for block in range(1, depth + 1):
            x = stage.block(width, **own, drop_path_rate=next(drop_path), name=f"stage_{index}_block_{block}")(x)

    if include_top:
        x = ConvNorm(head_channels[0], **shared, name="head_conv")(x)
    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = keras.layers.Dense(head_channels[1], use_bias=False, dtype=dtype, name="pre_logits")(x)
        x = LayerNorm(shared["epsilon"], dtype=dtype, name="pre_logits_norm")(x)
        x = activation_layer(design.activation, dtype=dtype, name="pre_logits_activation")(x)
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
