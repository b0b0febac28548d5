"""DINOv2, backbones that were trained without labels.

"DINOv2: Learning Robust Visual Features without Supervision" (Oquab et al., arXiv 2304.07193), and with registers
"Vision Transformers Need Registers" (Darcet et al., arXiv 2309.16588).

Reference code: facebookresearch/dinov2, Apache-2.0.
"""

import os
from typing import Literal

import keras

from keras_vit.layers import LayerNorm, TransformerBlock
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.image_facts import IMAGENET, Statistics
from keras_vit.models.vit.swiglu import SwiGLUBlock
from keras_vit.models.vit.vit import embed, encode, pool


@check_arguments
def DINOv2(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg", "token_and_avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "dinov2",
    *,
    patch_size: int | tuple[int, int] = 14,
    width: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_dim: int | None = None,
    swiglu: bool = False,
    num_registers: int = 0,
    epsilon: float = 1e-6,
    layer_scale: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a DINOv2 (Oquab et al., arXiv 2304.07193), a Vision Transformer with LayerScale.

    The published weights are those of a backbone without a classifier. Pass `include_top=False` for its features, or
    `classes` for a new classifier to train:

        features = keras_vit.DINOv2_S14(include_top=False, pooling="token_and_avg", weights="lvd142m")
        model = keras_vit.DINOv2_S14(classes=10, weights="lvd142m", input_shape=(224, 224, 3))

    The authors trained at 224 x 224 and finally at 518 x 518 pixels, which is the default. For other sizes, positions
    are resized as in the authors' code, which differs between the models without and with registers.

    Args:
        include_top: Whether the model ends with a classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            no classifier, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (518, 518, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: How the tokens are reduced to one vector: "token" takes the class token (batch, width), "avg" the mean
            of the patches (batch, width), and "token_and_avg" both (batch, 2 * width), as in the authors' linear
            classifiers. None means "token" with the top; without the top, it keeps all tokens (batch, class token +
            registers + patches, width).
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the layers of each MLP, 4 * width by default.
        swiglu: Whether the MLPs are `SwiGLU`, as in the largest model.
        num_registers: Number of register tokens between the class token and the patches. With registers, the class
            token has no position.
        epsilon: Added to the variance in every LayerNorm.
        layer_scale: Initial value of the LayerScale on each branch.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with ImageNet's
            mean and standard deviation. Pass `Statistics` to normalize with others.
        drop_path_rate: Rate of stochastic depth of every block.
        dropout_rate: Dropout rate after the position embedding, the attention's projection and each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size.
    """
    if include_top and pooling is None:
        pooling = "token"
    images = image_input(input_shape, (518, 518), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    x = embed(
        x,
        width,
        patch_size,
        special_tokens=("class_token",),
        num_registers=num_registers,
        resizing="cubic_antialiased" if num_registers else "cubic_offset",
        # The authors' position of the class token is a second learned term of the same token. timm adds it to the
        # token in files of models with registers.
        position_on_special_tokens=not num_registers,
        dropout_rate=dropout_rate,
        dtype=dtype,
    )
    x = encode(
        x,
        num_heads,
        4 * width if mlp_dim is None else mlp_dim,
        drop_path_rates=[drop_path_rate] * depth,
        block=SwiGLUBlock if swiglu else TransformerBlock,
        epsilon=epsilon,
        layer_scale=layer_scale,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        dtype=dtype,
    )
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if pooling == "token_and_avg":
        both = [pool(x, "token", 1, dtype), _mean_of_patches(x, 1 + num_registers, dtype)]
        x = keras.layers.Concatenate(dtype=dtype, name="token_and_mean")(both)
    elif pooling is not None:
        x = pool(x, pooling, 1 + num_registers, dtype)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)


def _mean_of_patches(tokens, prefix, dtype):
    patches = keras.layers.Cropping1D((prefix, 0), dtype=dtype, name="patch_tokens")(tokens)
    return keras.layers.GlobalAveragePooling1D(dtype=dtype, name="mean_of_patches")(patches)
