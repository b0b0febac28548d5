"""Attention in windows: with scaled products (Liu et al., arXiv 2103.14030) and with cosines (arXiv 2111.09883)."""

from dataclasses import asdict

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.matmul import MatMul
from keras_vit.layers.scale import Scale
from keras_vit.layers.window_bias import RelativePositionBias
from keras_vit.layers.window_moves import WindowPartition, WindowReverse
from keras_vit.layers.windows import Windows
from keras_vit.models.swin.continuous_position_bias import ContinuousPositionBias
from keras_vit.models.swin.unit_norm import UnitNorm
from keras_vit.models.swin.window_moves import CyclicShift


class AttentionInWindows(Composite):
    """Base class of softmax attention of each pixel of a map to the pixels of its window.

    The windows are beside the heads in one axis, so that the batch is always the first axis and no tensor has more than
    four axes, as mobile delegates require. The softmax computes in float32 or higher precision.

    Args:
        channels: Channels of the map.
        num_heads: Number of heads, a divisor of `channels`.
        size: (height, width) of the map.
        window: Side of a window. A smaller side of the map is one window.
        shifted: Whether the map is shifted cyclically by half a window.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        pad_first: Whether a map is padded before it is shifted, see `Windows`.

    Input and output: (batch, height, width, channels).
    """

    key_bias = True  # Whether the keys have a bias.

    def __init__(
        self,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        window: int,
        shifted: bool,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        *,
        pad_first: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if channels % num_heads:
            raise ValueError(f"num_heads must divide channels; received num_heads={num_heads}, channels={channels}.")
        self.settings = {
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "window": window,
            "shifted": shifted,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        self.channels = channels
        self.num_heads = num_heads
        self.windows = windows = Windows.of(size, window, shifted, pad_first)
        dtype = self.dtype_policy
        full_precision = keras.backend.result_type(self.variable_dtype, "float32")
        if windows.padded != windows.size:
            self.pad = keras.layers.ZeroPadding2D(windows.missing, dtype=dtype, name="pad")
            self.crop = keras.layers.Cropping2D(windows.missing, dtype=dtype, name="crop")
        if any(windows.shift):
            down, right = windows.shift
            self.shift = CyclicShift((-down, -right), dtype=dtype, name="shift")
            self.shift_back = CyclicShift(windows.shift, dtype=dtype, name="shift_back")
        self.partition = WindowPartition(windows.window[1], dtype=dtype, name="partition")
        self.query = keras.layers.Dense(channels, dtype=dtype, name="query")
        self.key = keras.layers.Dense(channels, use_bias=self.key_bias, dtype=dtype, name="key")
        self.value = keras.layers.Dense(channels, dtype=dtype, name="value")
        self.scores = MatMul(transpose_b=True, dtype=dtype, name="scores")
        self.bias = self.make_bias(num_heads, asdict(windows), dtype=dtype, name="bias")
        self.softmax = keras.layers.Activation("softmax", dtype=full_precision, name="softmax")
        self.attention_dropout = keras.layers.Dropout(attention_dropout_rate, dtype=dtype, name="attention_dropout")
        self.context = MatMul(dtype=dtype, name="context")
        self.reverse = WindowReverse(windows.window[1], windows.padded, dtype=dtype, name="reverse")
        self.projection = keras.layers.Dense(channels, dtype=dtype, name="projection")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def make_bias(self, num_heads: int, windows: dict, **kwargs) -> keras.layers.Layer:
        """Return the layer that adds to the scores; `kwargs` are passed to it."""
        raise NotImplementedError

    def heads_of_queries(self, tokens):
        """Return the queries (batch, heads, tokens, head width) of the windows' pixels (batch, tokens, channels)."""
        raise NotImplementedError

    def heads_of_keys(self, tokens):
        """Return the keys (batch, heads, tokens, head width) of the windows' pixels (batch, tokens, channels)."""
        raise NotImplementedError

    def build(self, input_shape):
        if tuple(input_shape[1:]) != (*self.windows.size, self.channels):
            raise ValueError(
                f"{type(self).__name__} expects (batch, {self.windows.size[0]}, {self.windows.size[1]}, "
                f"{self.channels}); received the shape {tuple(input_shape)}."
            )
        for dense in (self.query, self.key, self.value, self.projection):
            dense.build(input_shape)
        area = self.windows.area
        self.bias.build((input_shape[0], self.num_heads * self.windows.count, area, area))

    def call(self, inputs):
        tokens = self.partition(self._shifted_and_padded(inputs))
        query, key = self._in_windows(self.heads_of_queries(tokens)), self._in_windows(self.heads_of_keys(tokens))
        value = self._in_windows(split_heads(self.value(tokens), self.num_heads))
        probabilities = self.attention_dropout(self.softmax(self.bias(self.scores(query, key))))
        context = self.context(probabilities, value)
        context = ops.reshape(context, (-1, self.num_heads, tokens.shape[1], context.shape[-1]))
        maps = self._cropped_and_shifted_back(self.reverse(merge_heads(context)))
        return self.dropout(self.projection(maps))

    def _in_windows(self, heads):
        """Return heads (batch, heads, tokens, head width) with their windows beside them."""
        windows = self.windows
        return ops.reshape(heads, (-1, self.num_heads * windows.count, windows.area, heads.shape[-1]))

    def _shifted_and_padded(self, maps):
        for part in ("pad", "shift") if self.windows.pad_first else ("shift", "pad"):
            maps = getattr(self, part)(maps) if hasattr(self, part) else maps
        return maps

    def _cropped_and_shifted_back(self, maps):
        for part in ("shift_back", "crop") if self.windows.pad_first else ("crop", "shift_back"):
            maps = getattr(self, part)(maps) if hasattr(self, part) else maps
        return maps

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class WindowAttention(AttentionInWindows):
    """Compute attention in windows with scaled products and a relative position bias (arXiv 2103.14030, equation 4).

    A map that is not a multiple of the window is padded with zeros at the right and bottom, which take part in the
    attention.

    Args:
        channels, num_heads, size, window, shifted, dropout_rate, attention_dropout_rate: As in `AttentionInWindows`.
        pad_first: Whether a map is padded before it is shifted, as in the authors' code, or after that, as in timm.

    Input and output: (batch, height, width, channels).
    """

    def __init__(self, *args, pad_first: bool = True, **kwargs):
        super().__init__(*args, pad_first=pad_first, **kwargs)
        self.settings["pad_first"] = pad_first
        self.scale = Scale((self.channels // self.num_heads) ** -0.5, dtype=self.dtype_policy, name="scale")

    def make_bias(self, num_heads, windows, **kwargs):
        return RelativePositionBias(num_heads, windows, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        self.scale.build(input_shape)

    def heads_of_queries(self, tokens):
        return split_heads(self.scale(self.query(tokens)), self.num_heads)

    def heads_of_keys(self, tokens):
        return split_heads(self.key(tokens), self.num_heads)


@keras.saving.register_keras_serializable("keras_vit")
class CosineWindowAttention(AttentionInWindows):
    """Compute attention in windows with scaled cosines and a continuous position bias (arXiv 2111.09883, equation 2).

    Args:
        channels, num_heads, size, window, shifted, dropout_rate, attention_dropout_rate: As in `AttentionInWindows`.
        pretrained_window: (height, width) of the window that the position bias was trained with, or None for this
            layer's own. It stays the same when the layer is resized.

    Input and output: (batch, height, width, channels).

    Raises:
        ValueError: The window does not divide the map.
    """

    key_bias = False

    def __init__(self, *args, pretrained_window: tuple[int, int] | None = None, **kwargs):
        self._pretrained_window = pretrained_window  # `make_bias` needs it.
        super().__init__(*args, **kwargs)
        self.settings["pretrained_window"] = tuple(pretrained_window or self.windows.window)
        self.query_norm = UnitNorm(scaled=True, dtype=self.dtype_policy, name="query_norm")
        self.key_norm = UnitNorm(dtype=self.dtype_policy, name="key_norm")

    def make_bias(self, num_heads, windows, **kwargs):
        return ContinuousPositionBias(num_heads, windows, self._pretrained_window or windows["window"], **kwargs)

    def build(self, input_shape):
        if self.windows.padded != self.windows.size:
            (height, width), (rows, columns) = self.windows.size, self.windows.window
            raise ValueError(
                f"A map of {height} x {width} pixels cannot be divided into windows of {rows} x {columns}, and it is "
                "not padded for cosine attention."
            )
        super().build(input_shape)
        head_width = self.channels // self.num_heads
        self.query_norm.build((input_shape[0], self.num_heads, None, head_width))
        self.key_norm.build((input_shape[0], self.num_heads, None, head_width))

    def heads_of_queries(self, tokens):
        return self.query_norm(split_heads(self.query(tokens), self.num_heads))

    def heads_of_keys(self, tokens):
        return self.key_norm(split_heads(self.key(tokens), self.num_heads))
