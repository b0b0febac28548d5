"""The attention of BEiT: a bias by the relative position of two patches (Bao et al., arXiv 2106.08254, appendix A)."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers import TransformerBlock
from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.position_embedding import resize_positions
from keras_vit.layers.window_bias import WindowBias

_FOR_CLASS_TOKEN = 3  # Rows for a class token as the query's partner, as the query, and as both.


@keras.saving.register_keras_serializable("keras_vit")
class TokenBias(keras.layers.Layer):
    """Add a learned bias to the scores, by the relative position of the two patches.

    The table has a row for each relative position, and at its end three more: for the attention of patches to the class
    token's key, which comes last but two, for that of the class token, and for the class token with itself.

    Args:
        num_heads: Number of heads.
        grid: Rows and columns of patches.

    Input and output: (batch, heads, tokens, tokens), where the class token comes before the patches.
    """

    def __init__(self, num_heads: int, grid: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.grid = (grid[0], grid[1])
        self.table = None

    def share(self, other: "TokenBias") -> None:
        """Use the table of another layer, which is built, instead of a table of its own.

        It must be called before this layer is built. The table stays trainable as that of the other layer. A saved or
        copied layer has a frozen table of its own, so that its model has as many trainable weights as before.
        """
        self.trainable = False
        self.table = other.table

    def build(self, input_shape):
        tokens = 1 + self.grid[0] * self.grid[1]
        if tuple(input_shape[1:]) != (self.num_heads, tokens, tokens):
            raise ValueError(
                f"TokenBias expects scores (batch, {self.num_heads}, {tokens}, {tokens}); received the shape "
                f"{tuple(input_shape)}."
            )
        if self.table is None:
            rows, columns = _positions(self.grid)
            self.table = self.add_weight(
                name="table", shape=(rows * columns + _FOR_CLASS_TOKEN, self.num_heads), initializer="zeros"
            )

    def call(self, scores):
        return scores + ops.cast(self._bias(), scores.dtype)

    def _bias(self):
        index = relative_positions(self.grid)
        bias = ops.take(ops.convert_to_tensor(self.table), index.ravel(), axis=0)
        return ops.reshape(ops.transpose(bias), (1, self.num_heads, *index.shape))

    def inference_form(self) -> tuple[type, dict, dict[str, np.ndarray]]:
        """Return the class, the configuration and the weights of the layer that adds the bias as a constant."""
        tokens = 1 + self.grid[0] * self.grid[1]
        windows = {"size": (1, tokens), "window": (1, tokens), "shift": (0, 0)}
        config = {**self.get_config(), "windows": windows, "per_window": False}
        del config["grid"]
        bias = ops.convert_to_numpy(self._bias()).reshape(self.num_heads, 1, tokens * tokens)
        return WindowBias, config, {"bias": bias}

    def resized(self, table: np.ndarray, grid: tuple[int, int] | None = None) -> np.ndarray:
        """Return this layer's table, computed from that of another grid by cubic interpolation.

        Args:
            table: (relative positions + 3, heads).
            grid: Rows and columns of the table's patches, or None for a square grid.

        Raises:
            ValueError: The table is not that of a square grid.
        """
        count = len(table) - _FOR_CLASS_TOKEN
        if grid is None:
            side = round(max(count, 0) ** 0.5)
            if side**2 != count or side % 2 == 0:
                raise ValueError(
                    f"a table of relative positions has {len(table)} rows, which is not the number of a square grid: "
                    "(2 * side - 1) ** 2 + 3, such as 732 for 14 x 14 patches"
                )
            grid = ((side + 1) // 2, (side + 1) // 2)
        patches = resize_positions(table[None, :count], _positions(grid), _positions(self.grid), "cubic")[0]
        return np.concatenate([patches, table[count:]])

    def weights_from(self, old: "TokenBias") -> dict[str, np.ndarray]:
        """Return the weights of this layer, computed from the same layer at another image size."""
        return {"table": self.resized(ops.convert_to_numpy(old.table), old.grid)}

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "grid": self.grid}


def relative_positions(grid: tuple[int, int]) -> np.ndarray:
    """Return the row of the table for each query and key, (tokens, tokens), with the class token first."""
    rows, columns = _positions(grid)
    row, column = np.indices(grid).reshape(2, -1)
    index = np.empty((1 + len(row),) * 2, "int32")
    index[1:, 1:] = (row[:, None] - row + grid[0] - 1) * columns + column[:, None] - column + grid[1] - 1
    index[0], index[1:, 0] = rows * columns, rows * columns + 1
    index[0, 0] = rows * columns + 2
    return index


def _positions(grid):
    return 2 * grid[0] - 1, 2 * grid[1] - 1


@keras.saving.register_keras_serializable("keras_vit")
class BiasedSelfAttention(MultiHeadSelfAttention):
    """Compute self-attention with a `TokenBias`; the keys have no bias.

    Args:
        width: Width of a token.
        num_heads: Number of heads, a divisor of `width`.
        grid: Rows and columns of patches.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, tokens, width), with a class token before the patches.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        grid: tuple[int, int],
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
        self.grid = (grid[0], grid[1])
        self.bias = TokenBias(num_heads, grid, dtype=self.softmax.dtype_policy, name="bias")

    def _key_projection(self):
        # The softmax does not depend on a bias of the keys.
        return keras.layers.Dense(self.width, use_bias=False, dtype=self.dtype_policy, name="key")

    def build(self, input_shape):
        super().build(input_shape)
        batch, tokens, _ = input_shape
        self.bias.build((batch, self.num_heads, tokens, tokens))

    def probabilities(self, scores):
        return self.softmax(self.bias(scores))

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "groups", "locality"):
            del config[name]
        return {**config, "grid": self.grid}


@keras.saving.register_keras_serializable("keras_vit")
class BEiTBlock(TransformerBlock):
    """Compute a transformer block with `BiasedSelfAttention`.

    Args:
        args: Arguments of `TransformerBlock`.
        grid: Rows and columns of patches.
        kwargs: Arguments of `TransformerBlock`.

    Input and output: (batch, tokens, width), with a class token before the patches.
    """

    def __init__(self, *args, grid: tuple[int, int], **kwargs):
        self.grid = (grid[0], grid[1])
        super().__init__(*args, **kwargs)

    def _attention(self):
        names = ("width", "num_heads", "dropout_rate", "attention_dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return BiasedSelfAttention(**settings, grid=self.grid, dtype=self.dtype_policy, name="attention")

    def config_at(self, input_shape: tuple, old_image: tuple[int, int], new_image: tuple[int, int]) -> dict:
        """Return the configuration for another image size, see `keras_vit.resize_model`."""
        grid = [side * new // old for side, old, new in zip(self.grid, old_image, new_image, strict=True)]
        return {**self.get_config(), "grid": grid}

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}
