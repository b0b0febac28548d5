"""CaiT, "Going deeper with Image Transformers" (Touvron et al., arXiv 2103.17239).

Reference code: facebookresearch/deit, Apache-2.0.
"""

import os
from typing import Any, Literal

import keras

from keras_vit.layers import ClassToken, LayerNorm, PatchEmbedding, PositionEmbedding, TokenPooling
from keras_vit.models.arguments import check_arguments
from keras_vit.models.builder import classifier, finish, image_input, preprocess
from keras_vit.models.cait.class_attention import ClassAttentionBlock
from keras_vit.models.cait.talking_heads import TalkingHeadsBlock
from keras_vit.models.image_facts import IMAGENET, Statistics


@check_arguments
def CaiT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: Literal["token", "avg"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "cait",
    *,
    patch_size: int | tuple[int, int] = 16,
    width: int = 192,
    depth: int = 24,
    class_depth: int = 2,
    num_heads: int = 4,
    mlp_dim: int | None = None,
    activation: str = "gelu",
    epsilon: float = 1e-6,
    layer_scale: float = 1e-5,
    include_preprocessing: bool | Statistics = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Build a CaiT (Touvron et al., arXiv 2103.17239, sections 2 and 3).

    Args:
        include_top: Whether the model ends with the classifier. If not, `pooling` selects the output.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads. If the file has
            a different number of classes, the head keeps its random weights and a warning names them.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the input of the model, instead of a new
            input.
        input_shape: (height, width, channels) of an image, (224, 224, 3) by default. Height and width must be multiples
            of the patch's.
        pooling: How the tokens are reduced to one vector (batch, width): "token" takes the class token, and "avg" the
            mean of the patches. None means "token" with the top; without the top, it keeps all tokens (batch, 1 +
            patches, width), the class token first.
        classes: Number of classes.
        classifier_activation: Activation of the class scores, or None to return logits.
        name: Name of the model.
        patch_size: Side of a patch in pixels, or (height, width).
        width: Width of a token.
        depth: Number of blocks between the patches.
        class_depth: Number of blocks with class attention, which follow them.
        num_heads: Number of attention heads in each block.
        mlp_dim: Units between the two dense layers of each MLP, 4 * width by default.
        activation: Activation of the MLPs: "gelu", which is exact, or "gelu_tanh".
        epsilon: Added to the variance in every LayerNorm.
        layer_scale: Initial value of the LayerScale on each branch. The authors use smaller values for deeper models.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself, with the mean and
            standard deviation of ImageNet. Pass `Statistics` to normalize with other values.
        drop_path_rate: Rate of stochastic depth of each block between the patches, the same for all as in the authors'
            code.
        dropout_rate: Dropout rate after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`. Its blocks are the layers "block_{i}", and those with class attention
        "class_block_{i}".

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: A value does not fit, such as an image size that is not a multiple of the patch size, or a width
            that `num_heads` does not divide.
    """
    if include_top and pooling is None:
        pooling = "token"
    shared: dict[str, Any] = {
        "width": width,
        "num_heads": num_heads,
        "mlp_dim": 4 * width if mlp_dim is None else mlp_dim,
        "activation": activation,
        "epsilon": epsilon,
        "layer_scale": layer_scale,
        "dropout_rate": dropout_rate,
        "attention_dropout_rate": attention_dropout_rate,
        "dtype": dtype,
    }
    images = image_input(input_shape, (224, 224), input_tensor)
    x = preprocess(images, include_preprocessing, IMAGENET)
    patches = PatchEmbedding(width, patch_size, dtype=dtype, name="patch_embedding")
    grid = patches.grid(x.shape)
    x = PositionEmbedding(grid, resizing="cubic", dtype=dtype, name="position_embedding")(patches(x))
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    for index in range(depth):
        x = TalkingHeadsBlock(drop_path_rate=drop_path_rate, name=f"block_{index}", **shared)(x)
    x = ClassToken(0.02, dtype=dtype, name="class_token")(x)
    for index in range(class_depth):
        x = ClassAttentionBlock(name=f"class_block_{index}", **shared)(x)
    if pooling == "token":  # Before the norm: each token is normalized by itself, so the others need not be.
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)
    if pooling == "avg":
        x = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(x)
    if include_top:
        x = classifier(x, classes, classifier_activation, dtype)
    return finish(images, input_tensor, x, name, weights)
