"""MobileViTv2's transformer block (Mehta and Rastegari, arXiv 2206.02680, section 3)."""

import keras

from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.group_norm import GroupNorm
from keras_vit.layers.mlp import MLP
from keras_vit.models.mobilevit.separable_attention import SeparableSelfAttention


@keras.saving.register_keras_serializable("keras_vit")
class SeparableTransformerBlock(Composite):
    """Compute a `TransformerBlock` with separable attention, SiLU, and norms over all tokens of an image together.

    Args:
        width: Width of a token.
        mlp_dim: Units between the two dense layers of the MLP.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention's softmax.
        groups: Number of groups of tokens, as in `MultiHeadAttention`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        groups: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "width": width,
            "mlp_dim": mlp_dim,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "groups": groups,
        }
        dtype = self.dtype_policy
        self.norm1 = GroupNorm(dtype=dtype, name="norm1")
        self.attention = SeparableSelfAttention(
            width, dropout_rate, attention_dropout_rate, groups, dtype=dtype, name="attention"
        )
        self.norm2 = GroupNorm(dtype=dtype, name="norm2")
        self.mlp = MLP(width, mlp_dim, "silu", dropout_rate, dtype=dtype, name="mlp")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def build(self, input_shape):
        for part in (self.norm1, self.attention, self.norm2, self.mlp):
            part.build(input_shape)

    def call(self, tokens):
        tokens = self.add1([tokens, self.drop_path1(self.attention(self.norm1(tokens)))])
        return self.add2([tokens, self.drop_path2(self.mlp(self.norm2(tokens)))])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
