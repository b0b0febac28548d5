"""ConvMixer, "Patches Are All You Need?" (Trockman and Kolter, arXiv 2201.09792).

Reference code: locuslab/convmixer, MIT.
"""

import os
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.convmixer.convmixer_block import ConvActivationNorm, ConvMixerBlock
from keras_vit.models.image_facts import IMAGENET, Statistics


@check_arguments
def ConvMixer(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "convmixer",
    *,
    channels: int = 768,
    depth: int = 32,
    kernel_size: int = 7,
    patch_size: int = 7,
    activation: str = "gelu",
    epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a ConvMixer (Trockman and Kolter, arXiv 2201.09792, section 2).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be at least
            those of a patch. Pixels beyond the last whole patch are not used, as in the authors' code.
        pooling: Output without the top: None for the last feature map (batch, height / patch_size, width / patch_size,
            channels), or "avg" for its mean over the pixels (batch, channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of all maps.
        depth: Number of blocks.
        kernel_size: Side of the kernels of the depthwise convolutions, odd.
        patch_size: Side of a patch in pixels.
        activation: Activation after each convolution: "gelu", or "relu" in ConvMixer-768/32.
        epsilon: Added to the variance in the batch normalizations.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with the mean and
            standard deviation of ImageNet. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate before the classifier.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "block_{i}".

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an even `kernel_size` or an image that is smaller than a patch.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be an odd positive integer; received {kernel_size}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    if patch_size < 1 or min(images.shape[1:3]) < patch_size:
        raise ValueError(
            f"patch_size must be positive and at most the sides of an image of {images.shape[1]} x {images.shape[2]}; "
            f"received {patch_size}."
        )
    shared: dict[str, Any] = {"activation": activation, "epsilon": epsilon, "dtype": dtype}
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = ConvActivationNorm(channels, patch_size, strides=patch_size, name="stem", **shared)(x)
    for index, rate in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        x = ConvMixerBlock(channels, kernel_size, drop_path_rate=rate, name=f"block_{index}", **shared)(x)
    if include_top or pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
