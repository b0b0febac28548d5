"""The blocks of XCiT (El-Nouby et al., arXiv 2106.09681, section 3.3 and figure 1)."""

from typing import Any

import keras
from keras import ops

from keras_vit.layers.activations import GELU
from keras_vit.layers.attention import MultiHeadAttention
from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.scale import LayerScale
from keras_vit.models.xcit.cross_covariance import CrossCovarianceAttention
from keras_vit.models.xcit.fourier_positions import resized_grid


@keras.saving.register_keras_serializable("keras_vit")
class LocalPatchInteraction(Composite):
    """Let neighboring patches interact through two 3 x 3 depthwise convolutions, then scale each channel.

    Args:
        grid: Rows and columns of patches.
        layer_scale: Initial value of the `LayerScale` at the end.

    Input and output: (batch, rows * columns, width).
    """

    def __init__(self, grid: tuple[int, int], layer_scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        rows, columns = grid
        self.settings = {"grid": (rows, columns), "layer_scale": layer_scale}
        dtype = self.dtype_policy
        self.conv1 = keras.layers.DepthwiseConv2D(3, padding="same", dtype=dtype, name="conv1")
        self.activation = GELU(dtype=dtype, name="activation")
        self.norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype, name="norm")
        self.conv2 = keras.layers.DepthwiseConv2D(3, padding="same", dtype=dtype, name="conv2")
        # On the map, so that `keras_vit.fuse` can move it into the convolution.
        self.layer_scale = LayerScale(layer_scale, dtype=dtype, name="layer_scale")

    def build(self, input_shape):
        maps = (input_shape[0], *self.settings["grid"], input_shape[2])
        for part in (self.conv1, self.norm, self.conv2, self.layer_scale):
            part.build(maps)

    def call(self, tokens):
        rows, columns = self.settings["grid"]
        width = tokens.shape[-1]
        maps = self.norm(self.activation(self.conv1(ops.reshape(tokens, (-1, rows, columns, width)))))
        return ops.reshape(self.layer_scale(self.conv2(maps)), (-1, rows * columns, width))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class XCABlock(Composite):
    """Add cross-covariance attention, the interaction of neighboring patches and an MLP, each after a normalization.

    Args:
        grid: Rows and columns of patches.
        width: Width of a token.
        num_heads: Number of attention heads.
        mlp_dim: Units between the two dense layers of the MLP.
        activation: Name of the MLP's activation, as in `MLP`.
        epsilon: Added to the variance in the layer normalizations.
        layer_scale: Initial value of the `LayerScale` on each branch.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, rows * columns, width).
    """

    def __init__(
        self,
        grid: tuple[int, int],
        width: int,
        num_heads: int,
        mlp_dim: int,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        layer_scale: float = 1.0,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        rows, columns = grid
        self.settings: dict[str, Any] = {
            "grid": (rows, columns),
            "width": width,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "activation": activation,
            "epsilon": epsilon,
            "layer_scale": layer_scale,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(epsilon, dtype=dtype, name="norm1")
        self.attention = CrossCovarianceAttention(
            width, num_heads, dropout_rate, attention_dropout_rate, dtype=dtype, name="attention"
        )
        self.layer_scale1 = LayerScale(layer_scale, dtype=dtype, name="layer_scale1")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.norm2 = LayerNorm(epsilon, dtype=dtype, name="norm2")
        self.local = LocalPatchInteraction(grid, layer_scale, dtype=dtype, name="local")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")
        self.norm3 = LayerNorm(epsilon, dtype=dtype, name="norm3")
        self.mlp = MLP(width, mlp_dim, activation, dropout_rate, dtype=dtype, name="mlp")
        self.layer_scale3 = LayerScale(layer_scale, dtype=dtype, name="layer_scale3")
        self.drop_path3 = DropPath(drop_path_rate, dtype=dtype, name="drop_path3")
        self.add3 = keras.layers.Add(dtype=dtype, name="add3")

    def build(self, input_shape):
        for part in self.parts().values():
            if not isinstance(part, keras.layers.Add):
                part.build(input_shape)

    def call(self, tokens):
        branch = self.layer_scale1(self.attention(self.norm1(tokens)))
        tokens = self.add1([tokens, self.drop_path1(branch)])
        tokens = self.add2([tokens, self.drop_path2(self.local(self.norm2(tokens)))])
        return self.add3([tokens, self.drop_path3(self.layer_scale3(self.mlp(self.norm3(tokens))))])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}

    def config_at(self, input_shape: tuple, old_image: tuple[int, int], new_image: tuple[int, int]) -> dict:
        """Return the configuration for another image size, see `keras_vit.resize_model`."""
        return {**self.get_config(), "grid": resized_grid(self.settings["grid"], old_image, new_image)}


@keras.saving.register_keras_serializable("keras_vit")
class XCiTClassBlock(Composite):
    """Update the class token by attention to all tokens and by an MLP, as the authors' code does.

    Unlike in CaiT, the other tokens change as well: their normalized values are added to them, and the result is
    doubled. The second normalization replaces the tokens instead of feeding a branch.

    Args:
        width: Width of a token.
        num_heads: Number of attention heads.
        mlp_dim: Units between the two dense layers of the MLP.
        norm_all_tokens: Whether the second normalization replaces all tokens, or only the class token.
        activation: Name of the MLP's activation, as in `MLP`.
        epsilon: Added to the variance in both normalizations.
        layer_scale: Initial value of the `LayerScale` on each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, 1 + patches, width), with the class token first and a fixed number of patches.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        norm_all_tokens: bool = True,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        layer_scale: float = 1.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "width": width,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "norm_all_tokens": norm_all_tokens,
            "activation": activation,
            "epsilon": epsilon,
            "layer_scale": layer_scale,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(epsilon, dtype=dtype, name="norm1")
        self.attention = MultiHeadAttention(
            width,
            num_heads,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            dtype=dtype,
            name="attention",
        )
        self.concatenate1 = keras.layers.Concatenate(axis=1, dtype=dtype, name="concatenate1")
        self.layer_scale1 = LayerScale(layer_scale, dtype=dtype, name="layer_scale1")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.norm2 = LayerNorm(epsilon, dtype=dtype, name="norm2")
        if not norm_all_tokens:
            self.concatenate2 = keras.layers.Concatenate(axis=1, dtype=dtype, name="concatenate2")
        self.mlp = MLP(width, mlp_dim, activation, dropout_rate, dtype=dtype, name="mlp")
        self.layer_scale2 = LayerScale(layer_scale, dtype=dtype, name="layer_scale2")
        self.concatenate3 = keras.layers.Concatenate(axis=1, dtype=dtype, name="concatenate3")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def build(self, input_shape):
        class_token = (input_shape[0], 1, input_shape[2])
        self.norm1.build(input_shape)
        self.attention.build(class_token, input_shape)
        for part in (self.layer_scale1, self.norm2):
            part.build(input_shape)
        for part in (self.mlp, self.layer_scale2):
            part.build(class_token)

    def call(self, tokens):
        normed = self.norm1(tokens)
        branch = self.concatenate1([self.attention(normed[:, :1], normed), normed[:, 1:]])
        tokens = self.add1([tokens, self.layer_scale1(branch)])
        if self.settings["norm_all_tokens"]:
            tokens = self.norm2(tokens)
        else:
            tokens = self.concatenate2([self.norm2(tokens[:, :1]), tokens[:, 1:]])
        branch = self.layer_scale2(self.mlp(tokens[:, :1]))
        return self.add2([tokens, self.concatenate3([branch, tokens[:, 1:]])])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
