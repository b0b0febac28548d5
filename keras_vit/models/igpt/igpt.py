"""iGPT, "Generative Pretraining from Pixels" (Chen et al., ICML 2020).

Reference code: openai/image-gpt, modified MIT.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import ClassToken, PositionEmbedding, RMSNorm
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.igpt.causal_attention import CausalBlock
from keras_vit.models.igpt.colors import NearestColor
from keras_vit.models.image_facts import HALF, Statistics


@check_arguments
def iGPT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "igpt",
    *,
    num_colors: int = 512,
    width: int = 512,
    depth: int = 24,
    num_heads: int = 8,
    mlp_dim: int | None = None,
    predict_colors: bool = False,
    activation: str = "quick_gelu",
    epsilon: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build an iGPT (Chen et al., "Generative Pretraining from Pixels", ICML 2020).

    Each pixel is a token: the nearest of 512 colors. The pixels follow each other row by row after a learned start
    token, and each sees only those before it. With `include_top=False, predict_colors=True`, the model predicts the
    color of every pixel from the ones before it, which is how it is trained (`next_color_model`) and how it completes
    images (`complete_images`). Otherwise, it is a classifier, or gives features (`probe_model`).

    The colors are weights of the model, but files of published weights do not have them: set them with `set_colors`.
    The authors' TensorFlow checkpoints can be loaded after their arrays have been saved by name as an .npz file, and
    those of the Hugging Face hub as safetensors.

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` and `predict_colors` select the
            output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            no classifier, or one for a different number of classes, the head keeps its random weights and a warning
            names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (32, 32, 3) by default.
        pooling: How the tokens are reduced to one vector (batch, width): "avg" takes their mean. None means "avg" with
            the top; without the top, it keeps all tokens (batch, pixels, width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        num_colors: Number of colors.
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 4 * width by default.
        predict_colors: Whether a model without the top gives the logits of the colors of all pixels (batch, pixels,
            colors). Those of a pixel depend only on the pixels before it.
        activation: Activation of the MLPs. "quick_gelu" is that of the authors.
        epsilon: Added to the mean of the squares in every RMSNorm.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself. Pass
            `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as a width that `num_heads` does not divide, or `predict_colors=True`
            with the top or a pooling.
    """
    if predict_colors and (include_top or pooling is not None):
        raise ValueError(
            "predict_colors=True needs include_top=False and pooling=None; received "
            f"include_top={include_top} and pooling={pooling!r}."
        )
    if include_top and pooling is None:
        pooling = "avg"
    images = image_input(input_shape, (32, 32), input_tensor)
    x = preprocess(images, include_preprocessing, HALF)
    grid = x.shape[1:3]
    x = NearestColor(num_colors, dtype=_at_least_float32(dtype), name="colors")(x)
    x = keras.layers.Dense(
        width,
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
        dtype=dtype,
        name="color_embedding",
    )(x)
    x = keras.layers.Cropping1D((0, 1), dtype=dtype, name="all_but_last")(x)
    x = ClassToken(0.02, dtype=dtype, name="start_token")(x)
    x = PositionEmbedding(grid, dtype=dtype, name="position_embedding")(x)
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    for index, rate in enumerate(np.linspace(0.0, drop_path_rate, depth).tolist()):
        x = CausalBlock(
            width,
            num_heads,
            4 * width if mlp_dim is None else mlp_dim,
            activation=activation,
            epsilon=epsilon,
            drop_path_rate=rate,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            dtype=dtype,
            name=f"block_{index}",
        )(x)
    x = RMSNorm(epsilon, dtype=dtype, name="norm")(x)
    if predict_colors:
        x = keras.layers.Dense(num_colors, use_bias=False, dtype=dtype, name="color_head")(x)
    if pooling == "avg":
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)


def _at_least_float32(dtype) -> str:
    policy = keras.config.dtype_policy() if dtype is None else keras.dtype_policies.get(dtype)
    return keras.backend.result_type(policy.variable_dtype, "float32")
