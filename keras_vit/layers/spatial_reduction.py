"""Attention to a reduced map: spatial reduction (Wang et al., arXiv 2102.12122, section 3.3; 2106.13797, section 3.1).

Twins (Chu et al., arXiv 2104.13840, section 3.3) calls it global sub-sampled attention.
"""

import keras
from keras import ops

from keras_vit.layers.activations import GELU
from keras_vit.layers.attention import MultiHeadAttention
from keras_vit.layers.composite import SequentialComposite
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.pooling import AdaptiveAveragePooling
from keras_vit.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable("keras_vit")
class SpatialReduction(SequentialComposite):
    """Reduce a map by a convolution whose kernel is as large as its strides, or by an average, and normalize it.

    Args:
        channels: Channels of the map.
        reduction: Side of the kernel, and its strides.
        pooled_side: Side of a map of averages, of fixed size, which replaces the strides: a 1 x 1 convolution and a
            GELU after the normalization follow it. None for no averages.
        epsilon: Added to the variance in the normalization.

    Input: (batch, height, width, channels).
    Output: (batch, height // reduction, width // reduction, channels), or (batch, pooled_side, pooled_side, channels).

    Raises:
        ValueError: The map is smaller than the kernel.
    """

    def __init__(
        self, channels: int, reduction: int = 1, pooled_side: int | None = None, epsilon: float = 1e-5, **kwargs
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "reduction": reduction,
            "pooled_side": pooled_side,
            "epsilon": epsilon,
        }
        dtype = self.dtype_policy
        side = reduction if pooled_side is None else 1
        parts = {}
        if pooled_side is not None:
            parts["pool"] = AdaptiveAveragePooling(pooled_side, dtype=dtype, name="pool")
        parts["conv"] = keras.layers.Conv2D(channels, side, side, dtype=dtype, name="conv")
        parts["norm"] = LayerNorm(epsilon, dtype=dtype, name="norm")
        if pooled_side is not None:
            parts["activation"] = GELU(dtype=dtype, name="activation")
        self.set_sequence(parts)

    def build(self, input_shape):
        reduction = self.settings["reduction"]
        if self.settings["pooled_side"] is None and min(input_shape[1:3]) < reduction:
            raise ValueError(
                f"A map of {input_shape[1]} x {input_shape[2]} pixels cannot be reduced {reduction} times; pass larger "
                "images or smaller reductions."
            )
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class SpatialReductionAttention(MultiHeadAttention):
    """Compute softmax attention of each pixel of a map to the pixels of a smaller map, made by a `SpatialReduction`.

    Args:
        width: Channels of the map.
        num_heads: Number of heads, a divisor of `width`.
        reduction: How many times the map of keys and values is smaller on each side; 1 for no reduction.
        pooled_side: Side of the map of keys and values, if it is made of averages, see `SpatialReduction`.
        qkv_bias: Whether the query, key and value projections have a bias.
        epsilon: Added to the variance in the normalization of the smaller map.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        reduction: int = 1,
        pooled_side: int | None = None,
        qkv_bias: bool = True,
        epsilon: float = 1e-5,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(width, num_heads, qkv_bias, dropout_rate, attention_dropout_rate, **kwargs)
        self.settings = {
            "width": width,
            "num_heads": num_heads,
            "reduction": reduction,
            "pooled_side": pooled_side,
            "qkv_bias": qkv_bias,
            "epsilon": epsilon,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        self.reduces = reduction > 1 or pooled_side is not None
        if self.reduces:
            self.reduction = SpatialReduction(
                width, reduction, pooled_side, epsilon, dtype=self.dtype_policy, name="reduction"
            )

    def build(self, input_shape):
        if None in input_shape[1:] or input_shape[3] != self.width:
            raise ValueError(
                f"{type(self).__name__} expects (batch, height, width, {self.width}) with a fixed height and width; "
                f"received the shape {tuple(input_shape)}."
            )
        if self.reduces:
            self.reduction.build(input_shape)
        for part in (self.query, self.scale, self.key, self.value, self.projection):
            part.build(input_shape)

    def call(self, maps):
        _, height, width, channels = maps.shape
        reduced = self.reduction(maps) if self.reduces else maps
        query, key, value = (
            self._heads(projected)
            for projected in (self.scale(self.query(maps)), self.key(reduced), self.value(reduced))
        )
        probabilities = self.attention_dropout(self.probabilities(self.scores(query, key)))
        context = merge_heads(self.context(probabilities, value))
        return self.dropout(self.projection(ops.reshape(context, (-1, height, width, channels))))

    def _heads(self, maps):
        """Return a map (batch, height, width, channels) as heads (batch, heads, pixels, channels / heads)."""
        _, height, width, channels = maps.shape
        return split_heads(ops.reshape(maps, (-1, height * width, channels)), self.num_heads)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        del config["groups"], config["locality"]
        return {**config, **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class SpatialReductionBlock(TransformerBlock):
    """Compute a `TransformerBlock` on a map, with attention to a reduced map.

    Args:
        width, num_heads, mlp_dim, epsilon, drop_path_rate, dropout_rate, attention_dropout_rate: As in
            `TransformerBlock`.
        reduction: How many times the map of keys and values is smaller on each side.
        pooled_side: Side of the map of keys and values, if it is made of averages, see `SpatialReduction`.
        reduction_epsilon: Added to the variance in the normalization of the reduced map.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        reduction: int = 1,
        pooled_side: int | None = None,
        epsilon: float = 1e-6,
        reduction_epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        self._reduction = {"reduction": reduction, "pooled_side": pooled_side, "epsilon": reduction_epsilon}
        super().__init__(
            width,
            num_heads,
            mlp_dim,
            epsilon=epsilon,
            drop_path_rate=drop_path_rate,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            **kwargs,
        )
        self.settings = {
            "width": width,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "reduction": reduction,
            "pooled_side": pooled_side,
            "epsilon": epsilon,
            "reduction_epsilon": reduction_epsilon,
            "layer_scale": None,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }

    def _attention(self):
        names = ("width", "num_heads", "dropout_rate", "attention_dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return SpatialReductionAttention(**settings, **self._reduction, dtype=self.dtype_policy, name="attention")

    def get_config(self):
        config = super().get_config()
        del config["layer_scale"]
        return config
