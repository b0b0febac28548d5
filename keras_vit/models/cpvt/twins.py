"""Twins: "Revisiting the Design of Spatial Attention in Vision Transformers".

Chu et al., NeurIPS 2021, arXiv 2104.13840. Reference code: Meituan-AutoML/Twins, Apache-2.0.
"""

import os
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.layers import LayerNorm
from keras_vit.layers.conv_embedding import ConvEmbedding
from keras_vit.layers.spatial_reduction import SpatialReductionBlock
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import check_stages, classifier, finish, image_input, pool_map, preprocess
from keras_vit.models.cpvt.local_attention import LocalBlock
from keras_vit.models.cpvt.position_generator import PositionGenerator
from keras_vit.models.image_facts import IMAGENET, Statistics


@check_arguments
def Twins(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "twins",
    *,
    channels: tuple[int, ...] = (64, 128, 256, 512),
    depths: tuple[int, ...] = (2, 2, 10, 4),
    num_heads: tuple[int, ...] = (2, 4, 8, 16),
    mlp_ratios: tuple[int, ...] = (4, 4, 4, 4),
    reductions: tuple[int, ...] = (8, 4, 2, 1),
    window: int | None = None,
    epsilon: float = 1e-6,
    embedding_epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a Twins-PCPVT or a Twins-SVT (Chu et al., arXiv 2104.13840, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. No weight depends
            on the image size.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. With four stages, height and width
            must be multiples of 32. Maps that are not a multiple of the window are padded with zeros.
        pooling: Output without the top: None for the normalized map of the last stage (batch, height / 32, width / 32,
            channels[-1]), "avg" or "max" for its mean or maximum over the pixels (batch, channels[-1]).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of each stage. The first stage embeds patches of 4 x 4 pixels, and each other one patches of
            2 x 2 pixels of the map before it. A position encoding generator follows the first block of each stage.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads in each stage.
        mlp_ratios: For each stage, the ratio of the units between the two dense layers of an MLP to the channels.
        reductions: For each stage, how many times the map of keys and values is smaller on each side, in attention to
            the whole map.
        window: Side of the windows to which every second block limits its attention, beginning with the first of a
            stage, as in Twins-SVT; None for attention to the whole map in all blocks, as in Twins-PCPVT.
        epsilon: Added to the variance in every LayerNorm of a block, and in the last one.
        embedding_epsilon: Added to the variance in the LayerNorms of patch embeddings and reduced maps.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the patch embeddings, the attentions' projections and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the maps at their ends have strides 4, 8, 16 and 32.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of 32, or channels that
            `num_heads` does not divide.
    """
    stages = check_stages(
        channels=channels, depths=depths, num_heads=num_heads, mlp_ratios=mlp_ratios, reductions=reductions
    )
    if window is not None and window < 2:
        raise ValueError(f"window must be 2 or more, or None for no windows; received {window}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    size, stride = images.shape[1:3], 2 ** (stages + 1)
    if any(side % stride for side in size):
        fits = [max(1, side // stride) * stride for side in size]
        raise ValueError(
            f"A Twins of {stages} stages takes images whose sides are multiples of {stride}; received {size[0]} x "
            f"{size[1]}, and {fits[0]} x {fits[1]} would do."
        )
    x = preprocess(images, include_preprocessing, IMAGENET)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage in range(stages):
        width, patch_size, place = channels[stage], 2 if stage else 4, f"stage_{stage}"
        x = ConvEmbedding(
            width, patch_size, patch_size, epsilon=embedding_epsilon, dtype=dtype, name=f"{place}_embedding"
        )(x)
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name=f"{place}_dropout")(x)
        block: dict[str, Any] = {
            "width": width,
            "num_heads": num_heads[stage],
            "mlp_dim": mlp_ratios[stage] * width,
            "epsilon": epsilon,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "dtype": dtype,
        }
        for index in range(depths[stage]):
            given = {**block, "drop_path_rate": next(rates), "name": f"{place}_block_{index}"}
            if window is not None and index % 2 == 0:
                x = LocalBlock(size=x.shape[1:3], window=window, **given)(x)
            else:
                x = SpatialReductionBlock(reduction=reductions[stage], reduction_epsilon=embedding_epsilon, **given)(x)
            if index == 0:
                x = PositionGenerator(dtype=dtype, name=f"{place}_position")(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    x = pool_map(x, "avg" if include_top else pooling, dtype)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
