"""EfficientViT of Microsoft Research: "Memory Efficient Vision Transformer with Cascaded Group Attention".

Liu et al., CVPR 2023, arXiv 2305.07027. Reference code: microsoft/Cream, MIT license.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ConvNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.efficientvit_msra.sandwich import SandwichBlock, SandwichDownsample
from keras_vit.models.image_facts import IMAGENET, Statistics


@check_arguments
def EfficientViT_MSRA(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "efficientvit_msra",
    *,
    channels: tuple[int, ...] = (128, 192, 224),
    depths: tuple[int, ...] = (1, 2, 3),
    num_heads: tuple[int, ...] = (4, 3, 2),
    kernel_sizes: tuple[int, ...] = (7, 5, 3, 3),
    key_dim: int = 16,
    window: int = 7,
    epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """EfficientViT of Microsoft Research (Liu et al., arXiv 2305.07027).

    The layers "patch_embedding_1" to "patch_embedding_4" give maps at strides 2 to 16, the layers "stage_{i}_block_{j}"
    at strides 16, 32 and 64 (stages 0 to 2).

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads.
        input_tensor: A Keras tensor (batch, height, width, channels) to build on, in place of a new input.
        input_shape: (height, width, channels), 224 x 224 x 3 by default; any height and width. Where a stage's map is
            smaller than the window, its attention biases are as many as its pixels, so that weights fit images of one
            size only.
        pooling: Without the top, None for the last stage's map (batch, height / 64, width / 64, channels[-1]) or "avg"
            for its mean (batch, channels[-1]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None for logits.
        name: Name of the model.
        channels: Channels of each stage; the first is a multiple of 8.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage; they divide its width.
        kernel_sizes: Side of the depthwise convolution of each head's queries, for as many heads as any stage has.
        key_dim: Channels of a query and of a key.
        window: Side of the windows that attention looks at.
        epsilon: Of every batch normalization.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them by ImageNet's statistics.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 in the first.
        dropout_rate: Dropout before the classifier.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.
    """
    if not len(channels) == len(depths) == len(num_heads):
        raise ValueError(
            "channels, depths and num_heads have one number for each stage; "
            f"received {tuple(channels)}, {tuple(depths)} and {tuple(num_heads)}."
        )
    if channels[0] % 8:
        raise ValueError(f"The channels of the first stage are a multiple of 8; received {channels[0]}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    shared = {"epsilon": epsilon, "dtype": dtype}
    for number, part in enumerate((8, 4, 2, 1), start=1):
        activation = "relu" if part > 1 else None
        x = ConvNorm(
            channels[0] // part, 3, strides=2, activation=activation, **shared, name=f"patch_embedding_{number}"
        )(x)

    drop_path = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage, (outputs, depth, heads) in enumerate(zip(channels, depths, num_heads, strict=True)):
        if stage:
            x = SandwichDownsample(outputs, x.shape[-1], **shared, name=f"stage_{stage}_downsample")(x)
        for block in range(depth):
            x = SandwichBlock(
                outputs,
                heads,
                x.shape[1:3],
                window,
                key_dim,
                kernel_sizes,
                drop_path_rate=next(drop_path),
                **shared,
                name=f"stage_{stage}_block_{block}",
            )(x)

    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=epsilon, dtype=dtype, name="head_norm")(x)
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
