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

_STDDEV = 0.02  # Standard deviation of the special tokens' initial values.


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
    """Build a DeiT, a data-efficient image transformer (Touvron et al., arXiv 2012.12877).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the heads keep their random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: Output without the top: None for all tokens (batch, class token + distillation token + patches, width),
            "token" for the class token, or "avg" for the mean of the patches, both (batch, width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits. A distilled model applies it to
            the mean of the two heads' logits.
        name: Name of the model.
        distilled: Whether there is a distillation token with a head of its own, "head_dist" (section 3).
        distillation_outputs: Whether a distilled model returns [logits of the class token, logits of the distillation
            token] instead of their mean. Training by distillation compares the first with the labels and the second
            with the teacher. `average_heads` turns the trained model into one for inference.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 4 * width by default.
        epsilon: Added to the variance in every LayerNorm.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with ImageNet's
            mean and standard deviation. Pass `Statistics` to normalize with others.
        drop_path_rate: Rate of stochastic depth of the last block; the rates of the blocks rise linearly from 0 in the
            first.
        dropout_rate: Dropout rate after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size, or
            `distillation_outputs` of a model that does not have two heads.
    """
    _check_pooling(include_top, pooling)
    if distillation_outputs and not (distilled and include_top):
        raise ValueError(
            "distillation_outputs=True needs two heads: distilled=True and include_top=True; "
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
        drop_path_rates=np.linspace(0.0, drop_path_rate, depth).tolist(),
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
    """Return the model for inference of a distilled model with two outputs; both share layers and weights.

    Args:
        model: A model whose outputs are [logits of the class token, logits of the distillation token], such as
            `DeiT(distilled=True, distillation_outputs=True)`.
        classifier_activation: Activation of the mean of the two, or None to return logits.

    Returns:
        A functional model with one output, (batch, classes).

    Raises:
        ValueError: The model does not have two outputs.
    """
    if len(model.outputs) != 2:
        raise ValueError(
            f"average_heads takes a model with two outputs; {model.name!r} has {len(model.outputs)}. "
            "DeiT(distilled=True, distillation_outputs=True) builds one."
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
    """Build a DeiT III (Touvron et al., arXiv 2204.07118).

    Unlike in `DeiT`, the class token has no position, each branch has a LayerScale, and the rate of stochastic depth is
    the same in every block.

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: Output without the top: None for all tokens (batch, 1 + patches, width), "token" for the class token,
            or "avg" for the mean of the patches, both (batch, width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 4 * width by default.
        epsilon: Added to the variance in every LayerNorm.
        layer_scale: Initial value of the LayerScale on each branch.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with ImageNet's
            mean and standard deviation. Pass `Statistics` to normalize with others.
        drop_path_rate: Rate of stochastic depth of every block.
        dropout_rate: Dropout rate after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size, or
            `pooling="avg"` with the top.
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
        raise ValueError(
            "The classifier of DeiT takes the class token: pooling must be None or 'token'; received 'avg'."
        )
