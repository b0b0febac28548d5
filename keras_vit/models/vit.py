"""ViT: "An Image Is Worth 16x16 Words" (Dosovitskiy et al., arXiv 2010.11929) and its later sizes.

Reference code: google-research/vision_transformer and google-research/big_vision, Apache-2.0.
The sizes B/28, g/14, G/14 and the two narrow ones are from "Scaling Vision Transformers" (Zhai et al., arXiv
2106.04560, table 2), which writes the narrow ones s/28 and s/16; here they are XS28 and XS16.
"""

import os

import keras
import numpy as np

from keras_vit.layers import (
    ClassToken,
    LayerNorm,
    PatchEmbedding,
    PositionEmbedding,
    TokenPooling,
    TransformerBlock,
)
from keras_vit.models.build import classifier, image_input, with_weights
from keras_vit.models.registry import register_variant
from keras_vit.preprocessing import HALF, normalize


def ViT(
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    name: str = "vit",
    *,
    patch_size: int | tuple[int, int] = 16,
    width: int = 768,
    depth: int = 12,
    num_heads: int = 12,
    mlp_dim: int | None = None,
    representation_size: int | None = None,
    qkv_bias: bool = True,
    activation: str = "gelu",
    epsilon: float = 1e-6,
    layer_scale: float | None = None,
    include_preprocessing: bool = False,
    drop_path_rate: float = 0.0,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    dtype: str | None = None,
) -> keras.Model:
    """Vision Transformer (Dosovitskiy et al., arXiv 2010.11929).

    Args:
        include_top: Whether the model ends in the classifier. Without it, see `pooling`.
        weights: None for random weights, or the path of a file that `keras_vit.load_weights` reads.
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
        representation_size: Width of a hidden tanh layer before the classifier, as in pre-training, or None.
        qkv_bias: Whether query, key and value have a bias.
        activation: Of the MLPs: "gelu" (exact) or "gelu_tanh", the form of the JAX code.
        epsilon: Of every LayerNorm.
        layer_scale: Initial value of a LayerScale on each branch, or None for none.
        include_preprocessing: Whether the model takes images in [0, 255] and scales them to [-1, 1] itself.
        drop_path_rate: Stochastic depth of the last block; it rises linearly from 0 in the first.
        dropout_rate: Dropout after the position embedding, the attention's projection and both layers of each MLP.
        attention_dropout_rate: Dropout of the attention probabilities.
        dtype: A Keras dtype policy such as "mixed_bfloat16", or None for the global one.

    Returns:
        A functional `keras.Model`.
    """
    if not include_top and pooling not in (None, "token", "avg"):
        raise ValueError(f"pooling is None, 'token' or 'avg'; received {pooling!r}.")
    images = image_input(input_shape, (224, 224), input_tensor)
    x = images
    if include_preprocessing:
        x = normalize(x, HALF)
    patches = PatchEmbedding(width, patch_size, dtype=dtype, name="patch_embedding")
    grid = patches.grid(x.shape)
    x = patches(x)
    x = ClassToken(dtype=dtype, name="class_token")(x)
    x = PositionEmbedding(grid, dtype=dtype, name="position_embedding")(x)
    x = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")(x)
    for index, drop_path in enumerate(np.linspace(0.0, drop_path_rate, depth)):
        x = TransformerBlock(
            width,
            num_heads,
            4 * width if mlp_dim is None else mlp_dim,
            qkv_bias=qkv_bias,
            activation=activation,
            epsilon=epsilon,
            layer_scale=layer_scale,
            drop_path_rate=float(drop_path),
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            dtype=dtype,
            name=f"block_{index}",
        )(x)
    x = LayerNorm(epsilon, dtype=dtype, name="norm")(x)

    if include_top or pooling == "token":
        x = TokenPooling(dtype=dtype, name="pooling")(x)
    elif pooling == "avg":
        patches = keras.layers.Cropping1D((1, 0), dtype=dtype, name="patch_tokens")(x)
        x = keras.layers.GlobalAveragePooling1D(dtype=dtype, name="pooling")(patches)
    if include_top:
        if representation_size is not None:
            x = keras.layers.Dense(representation_size, dtype=dtype, name="pre_logits")(x)
            x = keras.layers.Activation("tanh", dtype=dtype, name="pre_logits_activation")(x)
        x = classifier(x, classes, classifier_activation, dtype)
    inputs = images if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    return with_weights(keras.Model(inputs, x, name=name), weights)


_SIZES = {  # width, depth, heads, MLP width
    "XS": (256, 6, 8, 1024),
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "H": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
    "G": (1664, 48, 16, 8192),
}
_SCALING = "Scaling Vision Transformers, arXiv 2106.04560, table 2"
_AUGREG = "How to train your ViT?, arXiv 2106.10270, table 2"
_ORIGINAL = "An Image Is Worth 16x16 Words, arXiv 2010.11929, table 1"


def _variant(size: str, patch: int, paper: str):
    width, depth, heads, mlp = _SIZES[size]
    # Snake case would give g/14 and G/14 one name, so the larger one doubles its letter.
    registry_name = f"vit_{'gg' if size == 'G' else size.lower()}{patch}"
    return register_variant(
        ViT,
        f"ViT_{size}{patch}",
        registry_name,
        {"patch_size": patch, "width": width, "depth": depth, "num_heads": heads, "mlp_dim": mlp},
        summary=f"ViT {size}/{patch}: width {width}, {depth} blocks, {heads} heads, patches of {patch} x {patch}.",
        image_size=(224, 224),
        paper=paper,
        licence="Apache-2.0",
        statistics=HALF,
    )


ViT_Ti16 = _variant("Ti", 16, _AUGREG)
ViT_S32 = _variant("S", 32, _AUGREG)
ViT_S16 = _variant("S", 16, _AUGREG)
ViT_B32 = _variant("B", 32, _ORIGINAL)
ViT_B16 = _variant("B", 16, _ORIGINAL)
ViT_B8 = _variant("B", 8, _AUGREG)
ViT_L32 = _variant("L", 32, _ORIGINAL)
ViT_L16 = _variant("L", 16, _ORIGINAL)
ViT_H14 = _variant("H", 14, _ORIGINAL)
ViT_g14 = _variant("g", 14, _SCALING)
ViT_G14 = _variant("G", 14, _SCALING)
ViT_XS28 = _variant("XS", 28, _SCALING)
ViT_XS16 = _variant("XS", 16, _SCALING)
ViT_B28 = _variant("B", 28, _SCALING)
