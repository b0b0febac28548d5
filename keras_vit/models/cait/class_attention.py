"""Class attention (Touvron et al., arXiv 2103.17239, section 3)."""

import keras

from keras_vit.layers.attention import MultiHeadAttention
from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.scale import LayerScale


@keras.saving.register_keras_serializable("keras_vit")
class ClassAttentionBlock(Composite):
    """Update the class token by attention to all tokens and by an MLP. The other tokens stay as they are.

    Args:
        width: Width of a token.
        num_heads: Number of attention heads.
        mlp_dim: Units between the two dense layers of the MLP.
        qkv_bias: Whether the query, key and value projections have a bias.
        activation: Name of the MLP's activation, as in `MLP`.
        epsilon: Added to the variance in both normalizations.
        layer_scale: Initial value of the `LayerScale` on each branch.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, 1 + patches, width), with the class token first and a fixed number of patches.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        qkv_bias: bool = True,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        layer_scale: float = 1e-5,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "width": width,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "qkv_bias": qkv_bias,
            "activation": activation,
            "epsilon": epsilon,
            "layer_scale": layer_scale,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
        }
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(epsilon, dtype=dtype, name="norm1")
        self.attention = MultiHeadAttention(
            width, num_heads, qkv_bias, dropout_rate, attention_dropout_rate, dtype=dtype, name="attention"
        )
        self.layer_scale1 = LayerScale(layer_scale, dtype=dtype, name="layer_scale1")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.norm2 = LayerNorm(epsilon, dtype=dtype, name="norm2")
        self.mlp = MLP(width, mlp_dim, activation, dropout_rate, dtype=dtype, name="mlp")
        self.layer_scale2 = LayerScale(layer_scale, dtype=dtype, name="layer_scale2")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")
        self.concatenate = keras.layers.Concatenate(axis=1, dtype=dtype, name="concatenate")

    def build(self, input_shape):
        class_token = (input_shape[0], 1, input_shape[2])
        self.norm1.build(input_shape)
        self.attention.build(class_token, input_shape)
        for part in (self.layer_scale1, self.norm2, self.mlp, self.layer_scale2):
            part.build(class_token)

    def call(self, tokens):
        normed = self.norm1(tokens)
        branch = self.layer_scale1(self.attention(normed[:, :1], normed))
        class_token = self.add1([tokens[:, :1], self.drop_path1(branch)])
        branch = self.layer_scale2(self.mlp(self.norm2(class_token)))
        class_token = self.add2([class_token, self.drop_path2(branch)])
        return self.concatenate([class_token, tokens[:, 1:]])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
