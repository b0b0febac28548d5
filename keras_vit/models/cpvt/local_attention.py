"""Locally-grouped self-attention (Chu et al., arXiv 2104.13840, section 3.2), and the block that has it."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.activations import AttentionSoftmax
from keras_vit.layers.attention import MultiHeadAttention
from keras_vit.layers.heads import merge_heads, split_heads
from keras_vit.layers.transformer_block import TransformerBlock
from keras_vit.layers.window_moves import WindowPartition, WindowReverse
from keras_vit.layers.windows import Windows


@keras.saving.register_keras_serializable("keras_vit")
class WindowSoftmax(AttentionSoftmax):
    """Compute the softmax of attention in windows, and know where the windows are on the map.

    Args:
        size: (height, width) of the map.
        window: Side of a window.

    Input and output: (batch, heads * windows, pixels of a window, pixels of a window); all windows of the first head
    come first.
    """

    def __init__(self, size: tuple[int, int], window: int, **kwargs):
        super().__init__(**kwargs)
        height, width = size
        self.windows = Windows((height, width), (window, window), (0, 0))

    def on_map(self, attention: np.ndarray) -> np.ndarray:
        """Return attention probabilities of windows as those of the map's pixels, see `Windows.on_map`."""
        return self.windows.on_map(attention)

    def get_config(self):
        return {**super().get_config(), "size": self.windows.size, "window": self.windows.window[0]}


@keras.saving.register_keras_serializable("keras_vit")
class LocalAttention(MultiHeadAttention):
    """Compute softmax attention of each pixel of a map to the pixels of its window.

    A map that is not a multiple of the window is padded with zeros at the right and bottom, which take part in the
    attention. The windows are beside the heads in one axis, so that the batch is always the first axis and no tensor
    has more than four axes.

    Args:
        width: Channels of the map.
        num_heads: Number of heads, a divisor of `width`.
        size: (height, width) of the map.
        window: Side of a window.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        size: tuple[int, int],
        window: int,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        height, columns = size
        self.windows = windows = Windows((height, columns), (window, window), (0, 0))  # `make_softmax` needs them.
        super().__init__(
            width, num_heads, dropout_rate=dropout_rate, attention_dropout_rate=attention_dropout_rate, **kwargs
        )
        self.settings = {
            "width": width,
            "num_heads": num_heads,
            "size": (height, columns),
            "window": window,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        if windows.padded != windows.size:
            self.pad = keras.layers.ZeroPadding2D(windows.missing, dtype=dtype, name="pad")
            self.crop = keras.layers.Cropping2D(windows.missing, dtype=dtype, name="crop")
        self.partition = WindowPartition(window, dtype=dtype, name="partition")
        self.reverse = WindowReverse(window, windows.padded, dtype=dtype, name="reverse")

    def make_softmax(self, **kwargs):
        return WindowSoftmax(self.windows.size, self.windows.window[0], **kwargs)

    def build(self, input_shape):
        if tuple(input_shape[1:]) != (*self.windows.size, self.width):
            raise ValueError(
                f"LocalAttention expects (batch, {self.windows.size[0]}, {self.windows.size[1]}, {self.width}); "
                f"received the shape {tuple(input_shape)}."
            )
        for part in (self.query, self.scale, self.key, self.value, self.projection):
            part.build(input_shape)

    def call(self, maps):
        is_padded = self.windows.padded != self.windows.size
        tokens = self.partition(self.pad(maps) if is_padded else maps)
        query, key, value = (
            self._heads(projected)
            for projected in (self.scale(self.query(tokens)), self.key(tokens), self.value(tokens))
        )
        probabilities = self.attention_dropout(self.softmax(self.scores(query, key)))
        context = self.context(probabilities, value)
        context = ops.reshape(context, (-1, self.num_heads, tokens.shape[1], context.shape[-1]))
        maps = self.reverse(merge_heads(context))
        return self.dropout(self.projection(self.crop(maps) if is_padded else maps))

    def _heads(self, tokens):
        """Return the windows' pixels (batch, pixels, width) as heads (batch, heads * windows, area, head width)."""
        heads = split_heads(tokens, self.num_heads)
        return ops.reshape(heads, (-1, self.num_heads * self.windows.count, self.windows.area, heads.shape[-1]))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "groups", "locality"):
            del config[name]
        return {**config, **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class LocalBlock(TransformerBlock):
    """Compute a `TransformerBlock` on a map, with `LocalAttention`.

    Args:
        width, num_heads, mlp_dim, epsilon, drop_path_rate, dropout_rate, attention_dropout_rate: As in
            `TransformerBlock`.
        size: (height, width) of the map.
        window: Side of a window.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        size: tuple[int, int],
        window: int,
        epsilon: float = 1e-6,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        height, columns = size
        self._windows = {"size": (height, columns), "window": window}  # `_attention` needs them.
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

    def _attention(self):
        names = ("width", "num_heads", "dropout_rate", "attention_dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return LocalAttention(**settings, **self._windows, dtype=self.dtype_policy, name="attention")

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "activation", "layer_scale", "groups", "locality"):
            del config[name]
        return {**config, **self._windows}
