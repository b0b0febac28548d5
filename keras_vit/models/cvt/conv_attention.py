"""Attention with convolutional projections (Wu et al., arXiv 2103.15808, section 3.2), and the blocks that have it."""

from typing import Any

import keras
from keras import ops

from keras_vit.layers.attention import MultiHeadAttention
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable("keras_vit")
class ConvAttention(MultiHeadAttention):
    """Compute softmax attention on a map, whose queries, keys and values each come from a depthwise convolution.

    The convolutions have 3 x 3 kernels and a batch normalization, and those of keys and values have strides of 2. A
    dense layer follows each of them. The scores are divided by the root of the width, not of a head's width.

    Args:
        width: Channels of the map.
        num_heads: Number of heads, a divisor of `width`.
        key_strides: Strides of the convolutions of keys and values.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        key_strides: int = 2,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(
            width,
            num_heads,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            **kwargs,
        )
        self.settings: dict[str, Any] = {
            "width": width,
            "num_heads": num_heads,
            "key_strides": key_strides,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        self.scale.factor = width**-0.5
        self.query_conv = self._conv(1, "query_conv")
        self.key_conv = self._conv(key_strides, "key_conv")
        self.value_conv = self._conv(key_strides, "value_conv")

    def _conv(self, strides, name):
        return ConvNorm(
            self.width, 3, strides, depthwise=True, input_channels=self.width, dtype=self.dtype_policy, name=name
        )

    def map_shape(self, input_shape):
        """Return the shape of the map in an input of this shape."""
        return tuple(input_shape)

    def build(self, input_shape):
        maps = self.map_shape(input_shape)
        if None in maps[1:] or maps[3] != self.width:
            raise ValueError(
                f"{type(self).__name__} expects a map of a fixed size with {self.width} channels; received the shape "
                f"{tuple(input_shape)}."
            )
        for part in (self.query_conv, self.key_conv, self.value_conv, self.query, self.key, self.value, self.scale):
            part.build(maps)
        self.projection.build(maps)

    def call(self, maps):
        _, height, width, channels = maps.shape
        context = self._attend(*(self._as_tokens(conv(maps)) for conv in self._convs()))
        return self.dropout(self.projection(ops.reshape(context, (-1, height, width, channels))))

    def _convs(self):
        return self.query_conv, self.key_conv, self.value_conv

    def _as_tokens(self, maps):
        _, height, width, channels = maps.shape
        return ops.reshape(maps, (-1, height * width, channels))

    def _attend(self, queries, keys, values):
        """Return the context (batch, queries, width) of three sequences of tokens."""
        query = split_heads(self.scale(self.query(queries)), self.num_heads)
        key, value = split_heads(self.key(keys), self.num_heads), split_heads(self.value(values), self.num_heads)
        probabilities = self.attention_dropout(self.probabilities(self.scores(query, key)))
        return merge_heads(self.context(probabilities, value))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "groups", "locality"):
            del config[name]
        return {**config, **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class ConvTokenAttention(ConvAttention):
    """Compute a `ConvAttention` on a class token and the pixels of a map. The class token skips the convolutions.

    Args:
        grid: Rows and columns of the map.
        width, num_heads, key_strides, dropout_rate, attention_dropout_rate: As in `ConvAttention`.

    Input and output: (batch, 1 + rows * columns, width), with the class token first.
    """

    def __init__(self, grid: tuple[int, int], *args, **kwargs):
        super().__init__(*args, **kwargs)
        rows, columns = grid
        self.settings = {"grid": (rows, columns), **self.settings}
        dtype = self.dtype_policy
        self.join_queries = keras.layers.Concatenate(axis=1, dtype=dtype, name="join_queries")
        self.join_keys = keras.layers.Concatenate(axis=1, dtype=dtype, name="join_keys")
        self.join_values = keras.layers.Concatenate(axis=1, dtype=dtype, name="join_values")

    def map_shape(self, input_shape):
        rows, columns = self.settings["grid"]
        if input_shape[1] != 1 + rows * columns:
            raise ValueError(
                f"ConvTokenAttention on a map of {rows} x {columns} pixels expects (batch, {1 + rows * columns}, "
                f"width); received the shape {tuple(input_shape)}."
            )
        return (input_shape[0], rows, columns, input_shape[2])

    def call(self, tokens):
        class_token, maps = tokens[:, :1], ops.reshape(tokens[:, 1:], (-1, *self.settings["grid"], self.width))
        joins = (self.join_queries, self.join_keys, self.join_values)
        sequences = (
            join([class_token, self._as_tokens(conv(maps))]) for join, conv in zip(joins, self._convs(), strict=True)
        )
        return self.dropout(self.projection(self._attend(*sequences)))


class _ConvBlock(TransformerBlock):
    """Base class of a `TransformerBlock` with convolutional attention.

    Args:
        width, num_heads, mlp_dim, activation, epsilon, drop_path_rate, dropout_rate, attention_dropout_rate: As in
            `TransformerBlock`.
        key_strides: Strides of the convolutions of keys and values, as in `ConvAttention`.
        attention_settings: Further arguments of the attention.
    """

    attention_class: type

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        key_strides: int = 2,
        activation: str = "quick_gelu",
        epsilon: float = 1e-5,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        *,
        attention_settings: dict | None = None,
        **kwargs,
    ):
        self._own_settings = {"key_strides": key_strides, **(attention_settings or {})}  # `_attention` needs them.
        super().__init__(
            width,
            num_heads,
            mlp_dim,
            activation=activation,
            epsilon=epsilon,
            drop_path_rate=drop_path_rate,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            **kwargs,
        )

    def _attention(self):
        names = ("width", "num_heads", "dropout_rate", "attention_dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return self.attention_class(**settings, **self._own_settings, dtype=self.dtype_policy, name="attention")

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "layer_scale", "groups", "locality"):
            del config[name]
        return {**config, **self._own_settings}


@keras.saving.register_keras_serializable("keras_vit")
class CvTBlock(_ConvBlock):
    """Compute a `TransformerBlock` on a map, with `ConvAttention`.

    Args:
        width, num_heads, mlp_dim, activation, epsilon, drop_path_rate, dropout_rate, attention_dropout_rate: As in
            `TransformerBlock`.
        key_strides: Strides of the convolutions of keys and values.

    Input and output: (batch, height, width, channels).
    """

    attention_class = ConvAttention


@keras.saving.register_keras_serializable("keras_vit")
class CvTTokenBlock(_ConvBlock):
    """Compute a `TransformerBlock` on a class token and the pixels of a map, with `ConvTokenAttention`.

    Args:
        grid: Rows and columns of the map.
        width, num_heads, mlp_dim, activation, epsilon, drop_path_rate, dropout_rate, attention_dropout_rate: As in
            `TransformerBlock`.
        key_strides: Strides of the convolutions of keys and values.

    Input and output: (batch, 1 + rows * columns, width), with the class token first.
    """

    attention_class = ConvTokenAttention

    def __init__(self, grid: tuple[int, int], *args, **kwargs):
        rows, columns = grid
        super().__init__(*args, attention_settings={"grid": (rows, columns)}, **kwargs)

    def config_at(self, input_shape: tuple, old_image: tuple[int, int], new_image: tuple[int, int]) -> dict:
        """Return the configuration for another image size, see `keras_vit.resize_model`."""
        return {**self.get_config(), "grid": grid_of_pixels(new_image, input_shape[1] - 1)}


def first_map(image: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of the map after the first embedding of an image of this size."""
    height, width = ((side + 2 * 2 - 7) // 4 + 1 for side in image)
    return height, width


def grid_of_pixels(image: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return (height, width) of the stage's map that has this number of pixels."""
    rows, columns = first_map(image)
    while rows * columns > pixels:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    return rows, columns
