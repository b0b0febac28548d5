"""CvT: "Introducing Convolutions to Vision Transformers" (Wu et al., ICCV 2021, arXiv 2103.15808).

Reference code: microsoft/CvT, MIT license.
"""

import os
from typing import Any, Literal

import keras
import numpy as np

from keras_vit.layers import ClassToken, LayerNorm, TokenPooling
from keras_vit.layers.conv_embedding import ConvEmbedding, ConvTokenEmbedding
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import check_stages, classifier, finish, image_input, preprocess
from keras_vit.models.cvt.conv_attention import CvTBlock, CvTTokenBlock
from keras_vit.models.image_facts import IMAGENET, Statistics


@check_arguments
def CvT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "cvt",
    *,
    channels: tuple[int, ...] = (64, 192, 384),
    depths: tuple[int, ...] = (1, 2, 10),
    num_heads: tuple[int, ...] = (1, 3, 6),
    mlp_ratio: int = 4,
    activation: str = "quick_gelu",
    epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a CvT (Wu et al., arXiv 2103.15808, section 3).

    It has no position embedding, because its convolutions see positions.

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them. No weight depends
            on the image size.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Any height and width of at least
            3 work.
        pooling: How the tokens of the last stage are reduced to one vector (batch, channels[-1]): "token" takes the
            class token, and "avg" the mean of the pixels. None means "token" with the top; without the top, it keeps
            all tokens (batch, 1 + pixels, channels[-1]), the class token first.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        channels: Channels of each stage. The first stage begins with a 7 x 7 convolution with strides of 4, and each
            other one with a 3 x 3 convolution with strides of 2. The last one has a class token.
        depths: Number of blocks of each stage.
        num_heads: Number of attention heads in each stage.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the channels.
        activation: Activation of the MLPs: "quick_gelu" as in the authors' code, or "gelu" as in Hugging Face's
            transformers, whose copies of the authors' checkpoints give slightly different outputs there.
        epsilon: Added to the variance in every LayerNorm.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them with ImageNet's mean and
            standard deviation itself. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks of the last stage rise
            linearly from 0 in its first, and the other stages have none, as in the authors' configurations.
        dropout_rate: Dropout rate at the beginning of each stage, after the attentions' projections and in the MLPs.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "stage_{i}_block_{j}", with i from 0. With three stages,
        the outputs of their last blocks have strides 4, 8 and 16; those of the last stage are tokens.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as channels that `num_heads` does not divide.
    """
    stages = check_stages(channels=channels, depths=depths, num_heads=num_heads)
    if include_top and pooling is None:
        pooling = "token"
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    rates = [0.0] * sum(depths[:-1]) + np.linspace(0.0, drop_path_rate, depths[-1]).tolist()
    for stage in range(stages):
        place, is_last = f"stage_{stage}", stage == stages - 1
        convolution = {"kernel_size": 3, "strides": 2, "padding": 1}
        if stage == 0:
            convolution = {"kernel_size": 7, "strides": 4, "padding": 2}
        embedding = (ConvTokenEmbedding if is_last else ConvEmbedding)(
            channels[stage], **convolution, epsilon=epsilon, dtype=dtype, name=f"{place}_embedding"
        )
        block: dict[str, Any] = {
            "width": channels[stage],
            "num_heads": num_heads[stage],
            "mlp_dim": mlp_ratio * channels[stage],
            "activation": activation,
            "epsilon": epsilon,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "dtype": dtype,
        }
        if is_last:
            block["grid"] = embedding.grid(x.shape)
            x = ClassToken(0.02, dtype=dtype, name="class_token")(embedding(x))
        else:
            x = embedding(x)
        x = keras.layers.Dropout(dropout_rate, dtype=dtype, name=f"{place}_dropout")(x)
        for index in range(depths[stage]):
            layer = CvTTokenBlock if is_last else CvTBlock
            x = layer(**block, drop_path_rate=rates.pop(0), name=f"{place}_block_{index}")(x)
    if pooling == "token":  # Before the norm: each token is normalized by itself, so the others need not be.
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if pooling == "avg":
        x = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
