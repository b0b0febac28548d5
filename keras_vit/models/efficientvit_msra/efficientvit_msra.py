"""EfficientViT of Microsoft Research: "Memory Efficient Vision Transformer with Cascaded Group Attention".

Liu et al., CVPR 2023, arXiv 2305.07027. Reference code: microsoft/Cream, MIT license.
"""

import os
from typing import Any, Literal

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
    """Build an EfficientViT of Microsoft Research (Liu et al., arXiv 2305.07027, section 3).

    The outputs of the layers "patch_embedding_1" to "patch_embedding_4" are feature maps with strides 2, 4, 8 and 16,
    those of "stage_{i}_block_{j}" maps with strides 16, 32 and 64 (i from 0 to 2).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Any height and width work. A map
            that is smaller than the window has one attention bias for each of its pixels, so weights from one image
            size may not fit another.
        pooling: Output without the top: None for the map of the last stage (batch, height / 64, width / 64,
            channels[-1]), or "avg" for its mean over the pixels (batch, channels[-1]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of each stage; those of the first must be a multiple of 8.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads of each stage, a divisor of its channels.
        kernel_sizes: Kernel size of the depthwise convolution of each head's queries, for the largest number of heads.
        key_dim: Channels of a query and of a key.
        window: Largest side of a window of the attention, in pixels of the map.
        epsilon: Added to the variance in every batch normalization.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with ImageNet's
            mean and standard deviation. Pass `Statistics` to normalize with others.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate before the classifier.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as `depths` and `channels` of different lengths.
    """
    if not len(channels) == len(depths) == len(num_heads):
        raise ValueError(
            "channels, depths and num_heads must have one number for each stage; "
            f"received {tuple(channels)}, {tuple(depths)} and {tuple(num_heads)}."
        )
    if channels[0] % 8:
        raise ValueError(f"The channels of the first stage must be a multiple of 8; received {channels[0]}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    shared: dict[str, Any] = {"epsilon": epsilon, "dtype": dtype}
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
