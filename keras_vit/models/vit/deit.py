"""DeiT and DeiT III.

"Training data-efficient image transformers & distillation through attention" (Touvron et al., arXiv 2012.12877) and
"DeiT III: Revenge of the ViT" (Touvron et al., arXiv 2204.07118).

Reference code: facebookresearch/deit, Apache-2.0.
"""

import os
from typing import Literal

import keras
import numpy as np

from keras_vit.layers import LayerNorm, TokenPooling
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, logits, predictions, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.vit.vit import embed, encode, pool

_STDDEV = 0.02  # Of the special tokens at the start.


@check_arguments
def DeiT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "deit",
    *,
    distilled: bool = False,
    distillation_outputs: bool = False,
    patch_size: int | tuple[int, int] = 16,
    width: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_dim: int | None = None,
    epsilon: float = 1e-6,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Data-efficient image Transformer (Touvron et al., arXiv 2012.12877).

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            another number of classes, the heads stay random and a warning says so.
        input_tensor: A Keras tensor (batch, height, width, channels) to build on, in place of a new input.
        input_shape: (height, width, channels), 224 x 224 x 3 by default. The patch divides height and width.
        pooling: Without the top, None for all tokens (batch, class token + distillation token + patches, width),
            "token" for the class token or "avg" for the mean of the patches, both (batch, width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None for logits. In a distilled model it comes after
            the mean of the two heads' logits.
        name: Name of the model.
        distilled: Whether there is a distillation token, with a head of its own ("head_dist"; section 3).
        distillation_outputs: Whether a distilled model gives [logits of the class token, logits of the distillation
            token], which are what training by distillation compares with labels and teacher. `average_heads` makes the
            model for inference from it.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Heads of each attention.
        mlp_dim: Hidden width of each MLP, 4 * width by default.
        epsilon: Of every LayerNorm.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them by ImageNet's mean and
            standard deviation itself, or the `Statistics` by which it normalizes them instead.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 in the first.
        dropout_rate: Dropout after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout of the attention probabilities.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.
    """
    _check_pooling(include_top, pooling)
    if distillation_outputs and not (distilled and include_top):
        raise ValueError(
            "distillation_outputs needs the two heads of distilled=True and include_top=True; "
            f"received distilled={distilled} and include_top={include_top}."
        )
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = embed(
        x,
        width,
        patch_size,
        special_tokens=("class_token", "distillation_token") if distilled else ("class_token",),
        special_token_stddev=_STDDEV,
        resizing="cubic",
        dropout_rate=dropout_rate,
        dtype=dtype,
    )
    x = encode(
        x,
        num_heads,
        4 * width if mlp_dim is None else mlp_dim,
        drop_path_rates=np.linspace(0.0, drop_path_rate, depth),
        epsilon=epsilon,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        dtype=dtype,
    )
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if not include_top:
        outputs = x if pooling is None else pool(x, pooling, 1 + distilled, dtype)
    elif not distilled:
        outputs = classifier(pool(x, "token", 1, dtype), classes, classifier_activation, dtype)
    else:
        heads = [
            logits(pool(x, "token", 2, dtype), classes, dtype),
            logits(TokenPooling(1, dtype=dtype, name="pooling_dist")(x), classes, dtype, name="head_dist"),
        ]
        outputs = heads if distillation_outputs else _averaged(heads, classifier_activation)
    return finish(images, input_tensor, outputs, name, weights)


def average_heads(model: keras.Model, classifier_activation: str | None = "softmax") -> keras.Model:
    """The model for inference from a distilled one with two outputs; both share their layers and weights.

    Args:
        model: A model whose outputs are [logits of the class token, logits of the distillation token], such as
            `DeiT(distilled=True, distillation_outputs=True)`.
        classifier_activation: Activation of the mean of the two, or None for logits.

    Returns:
        A functional model of one output, (batch, classes).
    """
    if len(model.outputs) != 2:
        raise ValueError(
            f"average_heads takes a model with two outputs; {model.name!r} has {len(model.outputs)}. "
            "DeiT(distilled=True, distillation_outputs=True) makes one."
        )
    return keras.Model(model.input, _averaged(model.outputs, classifier_activation), name=model.name)


def _averaged(heads, activation):
    return predictions(keras.layers.Average(dtype="float32", name="average")(heads), activation)


@check_arguments
def DeiT3(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "deit3",
    *,
    patch_size: int | tuple[int, int] = 16,
    width: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_dim: int | None = None,
    epsilon: float = 1e-6,
    layer_scale: float = 1e-4,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """DeiT III (Touvron et al., arXiv 2204.07118).

    It differs from `DeiT` in that the class token has no position, each branch has a LayerScale, and stochastic depth
    is the same in every block.

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            another number of classes, the head stays random and a warning says so.
        input_tensor: A Keras tensor (batch, height, width, channels) to build on, in place of a new input.
        input_shape: (height, width, channels), 224 x 224 x 3 by default. The patch divides height and width.
        pooling: Without the top, None for all tokens (batch, 1 + patches, width), "token" for the class token or
            "avg" for the mean of the patches, both (batch, width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None for logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Heads of each attention.
        mlp_dim: Hidden width of each MLP, 4 * width by default.
        epsilon: Of every LayerNorm.
        layer_scale: Initial value of the LayerScale on each branch.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them by ImageNet's mean and
            standard deviation itself, or the `Statistics` by which it normalizes them instead.
        drop_path_rate: Stochastic depth of every block.
        dropout_rate: Dropout after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout of the attention probabilities.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.
    """
    _check_pooling(include_top, pooling)
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = embed(
        x,
        width,
        patch_size,
        special_tokens=("class_token",),
        special_token_stddev=_STDDEV,
        resizing="cubic",
        position_on_special_tokens=False,
        dropout_rate=dropout_rate,
        dtype=dtype,
    )
    x = encode(
        x,
        num_heads,
        4 * width if mlp_dim is None else mlp_dim,
        drop_path_rates=[drop_path_rate] * depth,
        epsilon=epsilon,
        layer_scale=layer_scale,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        dtype=dtype,
    )
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if include_top:
        x = classifier(pool(x, "token", 1, dtype), classes, classifier_activation, dtype)
    elif pooling is not None:
        x = pool(x, pooling, 1, dtype)
    return finish(images, input_tensor, x, name, weights)


def _check_pooling(include_top, pooling):
    if include_top and pooling == "avg":
        raise ValueError("The classifier of DeiT takes the class token: pooling is None or 'token'; received 'avg'.")
