"""PVT: "Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions".

Wang et al., ICCV 2021, arXiv 2102.12122. Reference code: whai362/PVT, Apache-2.0.
"""

import os
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.layers import ClassToken, LayerNorm, PositionEmbedding, TokenPooling, TransformerBlock
from keras_vit.layers.conv_embedding import ConvTokenEmbedding
from keras_vit.layers.spatial_reduction import SpatialReductionBlock
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import check_stages, classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.pvt.pvt_embedding import POSITION_RESIZING, PVTEmbedding


@check_arguments
def PVT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "pvt",
    *,
    channels: tuple[int, ...] = (64, 128, 320, 512),
    depths: tuple[int, ...] = (3, 4, 6, 3),
    num_heads: tuple[int, ...] = (1, 2, 5, 8),
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4),
    reductions: tuple[int, ...] = (8, 4, 2, 1),
    epsilon: float = 1e-6,
    embedding_epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a Pyramid Vision Transformer (Wang et al., arXiv 2102.12122, section 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. Positions for
            another image size are resized as the authors do, bilinearly.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. With four stages, height and width
            must be multiples of 32.
        pooling: How the tokens of the last stage are reduced to one vector (batch, channels[-1]): "token" takes the
            class token, and "avg" the mean of the patches. None means "token" with the top; without the top, it keeps
            all tokens (batch, 1 + patches, channels[-1]), the class token first.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of each stage. The first stage embeds patches of 4 x 4 pixels, and each other one patches of
            2 x 2 pixels of the map before it.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads in each stage.
        mlp_ratios: For each stage, the ratio of the units between the two dense layers of an MLP to the channels.
        reductions: For each stage, how many times the map of keys and values is smaller on each side. It must be 1 for
            the last stage, which has a class token.
        epsilon: Added to the variance in every LayerNorm of a block, and in the last one.
        embedding_epsilon: Added to the variance in the LayerNorms of patch embeddings and reduced maps.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the position embeddings, the attentions' projections and both layers of each
            MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With four stages,
        the outputs of their last blocks have strides 4, 8, 16 and 32; those of the last stage are tokens.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of 32, or channels that
            `num_heads` does not divide.
    """
    stages = check_stages(
        channels=channels, depths=depths, num_heads=num_heads, mlp_ratios=mlp_ratios, reductions=reductions
    )
    if reductions[-1] != 1:
        raise ValueError(
            "The last stage has a class token, which cannot be reduced with the map: reductions must end with 1; "
            f"received reductions={tuple(reductions)}."
        )
    if include_top and pooling is None:
        pooling = "token"
    images = image_input(input_shape, (224, 224), input_tensor)
    size, stride = images.shape[1:3], 2 ** (stages + 1)
    if any(side % stride for side in size):
        fits = [max(1, side // stride) * stride for side in size]
        raise ValueError(
            f"A PVT of {stages} stages takes images whose sides are multiples of {stride}; received {size[0]} x "
            f"{size[1]}, and {fits[0]} x {fits[1]} would do."
        )
    x = preprocess(images, include_preprocessing, IMAGENET)
    rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
    for stage in range(stages):
        width, patch_size = channels[stage], 2 if stage else 4
        is_last = stage == stages - 1
        block: dict[str, Any] = {
            "width": width,
            "num_heads": num_heads[stage],
            "mlp_dim": mlp_ratios[stage] * width,
            "epsilon": epsilon,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "dtype": dtype,
        }
        place = f"stage_{stage}"
        if is_last:
            embedding = ConvTokenEmbedding(
                width, patch_size, patch_size, epsilon=embedding_epsilon, dtype=dtype, name=f"{place}_embedding"
            )
            grid = embedding.grid(x.shape)
            x = ClassToken(0.02, dtype=dtype, name="class_token")(embedding(x))
            x = PositionEmbedding(grid, resizing=POSITION_RESIZING, dtype=dtype, name=f"{place}_position")(x)
            x = keras.layers.Dropout(dropout_rate, dtype=dtype, name=f"{place}_dropout")(x)
        else:
            x = PVTEmbedding(
                width, patch_size, x.shape[1:3], embedding_epsilon, dropout_rate, dtype=dtype, name=f"{place}_embedding"
            )(x)
            block |= {"reduction": reductions[stage], "reduction_epsilon": embedding_epsilon}
        layer = TransformerBlock if is_last else SpatialReductionBlock
        for index in range(depths[stage]):
            x = layer(**block, drop_path_rate=next(rates), name=f"{place}_block_{index}")(x)
    if pooling == "token":  # Before the norm: each token is normalized by itself, so the others need not be.
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if pooling == "avg":
        x = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
