"""The blocks of Swin Transformer (Liu et al., arXiv 2103.14030, figure 3; version 2: arXiv 2111.09883, figure 1)."""

import keras

from keras_vit.layers.composite import Composite, SequentialComposite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.models.swin.window_attention import CosineWindowAttention, WindowAttention
from keras_vit.models.swin.window_moves import JoinPatches

EPSILON = 1e-5  # Of every LayerNorm.
PATCH_SIZE = 4


class BlockOfWindows(Composite):
    """Base class of a block with attention in windows and an MLP, both as residual branches.

    Args:
        channels: Channels of the map.
        num_heads: Number of attention heads.
        size: (height, width) of the map.
        window: Side of a window. A smaller side of the map is one window.
        shifted: Whether the map is shifted cyclically by half a window.
        mlp_ratio: Ratio of the units between the two dense layers of the MLP to the channels.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        attention_settings: Further arguments of the attention.

    Input and output: (batch, height, width, channels).
    """

    attention_class: type
    norm_initializer = "ones"  # Of the scale of the norms.

    def __init__(
        self,
        channels: int,
        num_heads: int,
        size: tuple[int, int],
        window: int = 7,
        shifted: bool = False,
        mlp_ratio: float = 4,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        *,
        attention_settings: dict | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "num_heads": num_heads,
            "size": tuple(size),
            "window": window,
            "shifted": shifted,
            "mlp_ratio": mlp_ratio,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(EPSILON, gamma_initializer=self.norm_initializer, dtype=dtype, name="norm1")
        self.attention = self.attention_class(
            channels,
            num_heads,
            size,
            window,
            shifted,
            dropout_rate,
            attention_dropout_rate,
            **(attention_settings or {}),
            dtype=dtype,
            name="attention",
        )
        self.norm2 = LayerNorm(EPSILON, gamma_initializer=self.norm_initializer, dtype=dtype, name="norm2")
        self.mlp = MLP(channels, round(mlp_ratio * channels), dropout_rate=dropout_rate, dtype=dtype, name="mlp")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def build(self, input_shape):
        for part in self.parts().values():
            if not isinstance(part, keras.layers.Add):
                part.build(input_shape)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class SwinBlock(BlockOfWindows):
    """Compute x + attention(norm(x)), then x + mlp(norm(x)) (arXiv 2103.14030, equation 3).

    Args:
        channels, num_heads, size, window, shifted, mlp_ratio, drop_path_rate, dropout_rate, attention_dropout_rate: As
            in `BlockOfWindows`.
        pad_first: Whether a map is padded before it is shifted, as in `WindowAttention`.

    Input and output: (batch, height, width, channels).
    """

    attention_class = WindowAttention

    def __init__(self, *args, pad_first: bool = True, **kwargs):
        super().__init__(*args, attention_settings={"pad_first": pad_first}, **kwargs)
        self.settings["pad_first"] = pad_first

    def call(self, inputs):
        x = self.add1([inputs, self.drop_path1(self.attention(self.norm1(inputs)))])
        return self.add2([x, self.drop_path2(self.mlp(self.norm2(x)))])


@keras.saving.register_keras_serializable("keras_vit")
class SwinV2Block(BlockOfWindows):
    """Compute x + norm(attention(x)), then x + norm(mlp(x)), with cosine attention (arXiv 2111.09883, section 3.2).

    The scales of the norms start at zero, as in the authors' code, so that the block starts as the identity.

    Args:
        channels, num_heads, size, window, shifted, mlp_ratio, drop_path_rate, dropout_rate, attention_dropout_rate: As
            in `BlockOfWindows`.
        pretrained_window: (height, width) of the window in pre-training, as in `CosineWindowAttention`.

    Input and output: (batch, height, width, channels), where the window divides height and width.
    """

    attention_class = CosineWindowAttention
    norm_initializer = "zeros"

    def __init__(self, *args, pretrained_window: tuple[int, int] | None = None, **kwargs):
        super().__init__(*args, attention_settings={"pretrained_window": pretrained_window}, **kwargs)
        self.settings["pretrained_window"] = self.attention.settings["pretrained_window"]

    def call(self, inputs):
        x = self.add1([inputs, self.drop_path1(self.norm1(self.attention(inputs)))])
        return self.add2([x, self.drop_path2(self.norm2(self.mlp(x)))])


def _even_padding(size):
    return tuple((0, side % 2) for side in size)


@keras.saving.register_keras_serializable("keras_vit")
class PatchMerging(SequentialComposite):
    """Join each 2 x 2 pixels, normalize them, and project them (arXiv 2103.14030, section 3.1).

    A map with an odd side is padded with zeros at the right and bottom.

    Args:
        channels: Channels of the output.
        size: (height, width) of the map.

    Input: (batch, height, width, input channels). Output: (batch, ceil(height / 2), ceil(width / 2), channels).
    """

    def __init__(self, channels: int, size: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.settings = {"channels": channels, "size": tuple(size)}
        dtype = self.dtype_policy
        parts = {}
        if any(side % 2 for side in size):
            parts["pad"] = keras.layers.ZeroPadding2D(_even_padding(size), dtype=dtype, name="pad")
        parts["join"] = JoinPatches(dtype=dtype, name="join")
        parts["norm"] = LayerNorm(EPSILON, dtype=dtype, name="norm")
        parts["reduction"] = keras.layers.Dense(channels, use_bias=False, dtype=dtype, name="reduction")
        self.set_sequence(parts)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class PatchMergingV2(SequentialComposite):
    """Project each 2 x 2 pixels to one, then normalize it (arXiv 2111.09883, section 3.2).

    The projection of joined pixels is a convolution.

    Args:
        channels: Channels of the output.

    Input: (batch, height, width, input channels) with even height and width.
    Output: (batch, height / 2, width / 2, channels).
    """

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        dtype = self.dtype_policy
        self.set_sequence(
            {
                "reduction": keras.layers.Conv2D(channels, 2, strides=2, use_bias=False, dtype=dtype, name="reduction"),
                "norm": LayerNorm(EPSILON, dtype=dtype, name="norm"),
            }
        )

    def build(self, input_shape):
        if input_shape[1] % 2 or input_shape[2] % 2:
            raise ValueError(
                f"PatchMergingV2 expects a map of even height and width; received the shape {tuple(input_shape)}."
            )
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("keras_vit")
class PatchMap(SequentialComposite):
    """Divide images into patches of 4 x 4 pixels, project each to a pixel of a map, and normalize it.

    An image that is not a multiple of the patch is padded with zeros at the right and bottom.

    Args:
        channels: Channels of the map.
        size: (height, width) of the images.

    Input: (batch, height, width, image channels). Output: (batch, ceil(height / 4), ceil(width / 4), channels).
    """

    def __init__(self, channels: int, size: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.settings = {"channels": channels, "size": tuple(size)}
        dtype = self.dtype_policy
        parts = {}
        if any(side % PATCH_SIZE for side in size):
            missing = tuple((0, -side % PATCH_SIZE) for side in size)
            parts["pad"] = keras.layers.ZeroPadding2D(missing, dtype=dtype, name="pad")
        parts["projection"] = keras.layers.Conv2D(
            channels, PATCH_SIZE, strides=PATCH_SIZE, dtype=dtype, name="projection"
        )
        parts["norm"] = LayerNorm(EPSILON, dtype=dtype, name="norm")
        self.set_sequence(parts)

    def get_config(self):
        return {**super().get_config(), **self.settings}
