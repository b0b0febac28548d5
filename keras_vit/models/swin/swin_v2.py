"""Swin Transformer V2: "Scaling Up Capacity and Resolution" (Liu et al., CVPR 2022, arXiv 2111.09883).

Reference code: microsoft/Swin-Transformer, MIT license.
"""

import os
from typing import Literal

import keras

from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import finish, image_input, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.swin.swin import head, stages
from keras_vit.models.swin.swin_block import PATCH_SIZE, PatchMergingV2, SwinV2Block


@check_arguments
def SwinV2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "swinv2",
    *,
    channels: int = 96,
    depths: tuple[int, ...] = (2, 2, 6, 2),
    num_heads: tuple[int, ...] = (3, 6, 12, 24),
    window: int = 8,
    pretrained_windows: tuple[int, ...] | None = None,
    mlp_ratio: float = 4,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a Swin Transformer V2 (Liu et al., arXiv 2111.09883, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. If its model had
            other windows, pass them as `pretrained_windows`, because the file does not tell them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (256, 256, 3) by default. The maps are not padded: the
            window, or the map's side if that is smaller, must divide every map, and the maps must be even.
        pooling: Output without the top: None for the normalized map of the last stage (batch, height / 32, width / 32,
            8 * channels), "avg" or "max" for its mean or maximum over the pixels (batch, 8 * channels).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of the first stage. Each stage has twice the channels of the one before it.
        depths: Number of blocks of each stage. The maps of every second block are shifted by half a window.
        num_heads: Number of attention heads in each stage.
        window: Side of the windows of the attention. A side of a map that is not larger is one window.
        pretrained_windows: Side of the windows of each stage in the training of the weights, if it was another one.
            The position biases then see the same distances as in training.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the channels.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the patch embedding and the attentions' projections, in the MLPs and before the
            classifier.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the outputs of their last blocks are feature maps with strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an unknown `pooling`, a window that is larger than the first map, or
            images whose maps the window does not divide.
    """
    images = image_input(input_shape, (256, 256), input_tensor)
    if pretrained_windows is not None and len(pretrained_windows) != len(depths):
        raise ValueError(
            f"pretrained_windows must have a number for each of the {len(depths)} stages; "
            f"received {tuple(pretrained_windows)}."
        )
    _check_size(tuple(images.shape[1:3]), window, len(depths))

    def block(channels, size, num_heads, stage, **settings):
        before = pretrained_windows and (pretrained_windows[stage],) * 2
        return SwinV2Block(channels, num_heads, size, window, mlp_ratio=mlp_ratio, pretrained_window=before, **settings)

    x = preprocess(images, include_preprocessing, IMAGENET)
    x = stages(
        x,
        channels,
        depths,
        num_heads,
        window,
        block,
        lambda channels, _, **settings: PatchMergingV2(channels, **settings),
        drop_path_rate,
        dropout_rate,
        attention_dropout_rate,
        dtype,
    )
    x = head(x, include_top, pooling, classes, classifier_activation, dropout_rate, dtype)
    return finish(images, input_tensor, x, name, weights)


def _check_size(size, window, num_stages):
    """Raise an error for images whose maps the windows do not divide. A window that is too large is found later."""
    if window < 1 or window > min(size) // PATCH_SIZE or all(_fits(side, window, num_stages) for side in size):
        return
    nearest = tuple(
        min(range(PATCH_SIZE, 2 * side, PATCH_SIZE), key=lambda new, old=side: _distance(new, old, window, num_stages))
        for side in size
    )
    raise ValueError(
        "The maps of SwinV2 are not padded, so the window must divide each map, and all but the last must be even: "
        f"images of {size[0]} x {size[1]} pixels do not fit window={window}; {nearest[0]} x {nearest[1]} would do."
    )


def _distance(new, old, window, num_stages):
    return abs(new - old) if new // PATCH_SIZE >= window and _fits(new, window, num_stages) else float("inf")


def _fits(side, window, num_stages):
    """Whether a side of an image has only maps that the window divides."""
    if side % (PATCH_SIZE * 2 ** (num_stages - 1)):
        return False
    maps = [side // (PATCH_SIZE * 2**stage) for stage in range(num_stages)]
    return all(pixels % min(window, pixels) == 0 for pixels in maps)
