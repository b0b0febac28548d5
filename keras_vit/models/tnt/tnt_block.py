"""The block of TNT: a transformer in each patch, and one between the patches (Han et al., arXiv 2103.00112, 2.2)."""

from typing import Any

import keras
from keras import ops

from keras_vit.layers.attention import MultiHeadAttention
from keras_vit.layers.composite import Composite
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.matmul import FloatMatMul
from keras_vit.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable("keras_vit")
class PixelAttention(MultiHeadAttention):
    """Compute softmax attention of each pixel to all pixels of its patch.

    The patches are beside the heads in one axis, so that the batch is always the first axis and no tensor has more than
    four axes. The products have only a few rows and columns, so they stay in float when the model is quantized.

    Args:
        width: Width of a pixel.
        num_heads: Number of heads, a divisor of `width`.
        qkv_bias: Whether the query, key and value projections have a bias.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, patches, pixels, width), all but the batch fixed.
    """

    product_class = FloatMatMul

    def __init__(
        self,
        width: int,
        num_heads: int,
        qkv_bias: bool = True,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(width, num_heads, qkv_bias, dropout_rate, attention_dropout_rate, **kwargs)

    def build(self, input_shape):
        if None in input_shape[1:] or input_shape[3] != self.width:
            raise ValueError(
                f"PixelAttention expects (batch, patches, pixels, {self.width}) with fixed numbers of patches and "
                f"pixels; received the shape {tuple(input_shape)}."
            )
        for part in (self.query, self.scale, self.key, self.value, self.projection):
            part.build(input_shape)

    def call(self, pixels):
        shape = pixels.shape
        query, key, value = (
            self._heads(projected)
            for projected in (self.scale(self.query(pixels)), self.key(pixels), self.value(pixels))
        )
        probabilities = self.attention_dropout(self.probabilities(self.scores(query, key)))
        context = self.context(probabilities, value)
        context = merge_heads(ops.reshape(context, (-1, self.num_heads, shape[1] * shape[2], context.shape[-1])))
        return self.dropout(self.projection(ops.reshape(context, (-1, *shape[1:]))))

    def _heads(self, pixels):
        """Return (batch, patches, pixels, width) as (batch, heads * patches, pixels, width / heads)."""
        _, patches, count, width = pixels.shape
        heads = split_heads(ops.reshape(pixels, (-1, patches * count, width)), self.num_heads)
        return ops.reshape(heads, (-1, self.num_heads * patches, count, heads.shape[-1]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        del config["groups"], config["locality"]
        return config


@keras.saving.register_keras_serializable("keras_vit")
class PixelBlock(TransformerBlock):
    """Compute a `TransformerBlock` in each patch. Stochastic depth drops the branches of single patches.

    Args:
        width, num_heads, mlp_dim, qkv_bias, activation, epsilon, drop_path_rate, dropout_rate, attention_dropout_rate:
            As in `TransformerBlock`.

    Input and output: (batch, patches, pixels, width), all but the batch fixed.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for drop_path in (self.drop_path1, self.drop_path2):
            drop_path.leading_axes = 2

    def _attention(self):
        names = ("width", "num_heads", "qkv_bias", "dropout_rate", "attention_dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return PixelAttention(**settings, dtype=self.dtype_policy, name="attention")


@keras.saving.register_keras_serializable("keras_vit")
class TNTBlock(Composite):
    """Update the pixels by a transformer in each patch, add a projection of them to the patches, and update these.

    Args:
        pixel_width: Width of a pixel.
        width: Width of a patch.
        pixel_heads: Number of attention heads between pixels.
        num_heads: Number of attention heads between patches.
        mlp_ratio: Ratio of the units between the two dense layers of each MLP to the width.
        activation: Name of the MLPs' activation, as in `MLP`.
        epsilon: Added to the variance in every normalization.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLPs and after the attentions' projections.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Inputs: patches (batch, 1 + patches, width) with the class token first, and the pixels of each patch (batch,
    patches, pixels * pixel_width), all but the batch fixed.
    Outputs: both, updated.
    """

    def __init__(
        self,
        pixel_width: int,
        width: int,
        pixel_heads: int,
        num_heads: int,
        mlp_ratio: int = 4,
        activation: str = "gelu",
        epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "pixel_width": pixel_width,
            "width": width,
            "pixel_heads": pixel_heads,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "activation": activation,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        shared: dict[str, Any] = {
            "qkv_bias": False,
            "activation": activation,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "dtype": dtype,
        }
        self.inner = PixelBlock(pixel_width, pixel_heads, mlp_ratio * pixel_width, name="inner", **shared)
        self.patch_norm1 = LayerNorm(epsilon, dtype=dtype, name="patch_norm1")
        self.patch_projection = keras.layers.Dense(width, use_bias=False, dtype=dtype, name="patch_projection")
        self.patch_norm2 = LayerNorm(epsilon, dtype=dtype, name="patch_norm2")
        self.add = keras.layers.Add(dtype=dtype, name="add")
        self.concatenate = keras.layers.Concatenate(axis=1, dtype=dtype, name="concatenate")
        self.outer = TransformerBlock(width, num_heads, mlp_ratio * width, name="outer", **shared)

    def build(self, patches_shape, pixels_shape):
        if pixels_shape[1] is None or patches_shape[1] != 1 + pixels_shape[1]:
            raise ValueError(
                "TNTBlock expects a class token and as many patches as there are patches of pixels; received the "
                f"shapes {tuple(patches_shape)} and {tuple(pixels_shape)}."
            )
        pixel_width = self.settings["pixel_width"]
        self.inner.build((*pixels_shape[:2], pixels_shape[2] // pixel_width, pixel_width))
        self.patch_norm1.build(pixels_shape)
        self.patch_projection.build(pixels_shape)
        self.patch_norm2.build((*pixels_shape[:2], self.settings["width"]))
        self.outer.build(patches_shape)

    def call(self, patches, pixels):
        _, count, width = pixels.shape
        pixel_width = self.settings["pixel_width"]
        inner = self.inner(ops.reshape(pixels, (-1, count, width // pixel_width, pixel_width)))
        pixels = ops.reshape(inner, (-1, count, width))
        projected = self.patch_norm2(self.patch_projection(self.patch_norm1(pixels)))
        patches = self.concatenate([patches[:, :1], self.add([patches[:, 1:], projected])])
        return self.outer(patches), pixels

    def compute_output_shape(self, patches_shape, pixels_shape):
        return tuple(patches_shape), tuple(pixels_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
