"""The pre-normalization transformer encoder block (Dosovitskiy et al., arXiv 2010.11929, figure 1 and appendix A)."""

from typing import Any

import keras

from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP
from keras_vit.layers.scale import LayerScale


@keras.saving.register_keras_serializable("keras_vit")
class TransformerBlock(Composite):
    """Compute x + attention(norm(x)), then x + mlp(norm(x)), with optional LayerScale and stochastic depth.

    Args:
        width: Width of a token.
        num_heads: Number of attention heads.
        mlp_dim: Units between the two dense layers of the MLP.
        qkv_bias: Whether the query, key and value projections have a bias.
        activation: Name of the MLP's activation, as in `MLP`.
        epsilon: Added to the variance in both normalizations.
        layer_scale: Initial value of a `LayerScale` on each branch, or None for no `LayerScale`.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in the MLP and after the attention's projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.
        groups: Number of groups of tokens, as in `MultiHeadAttention`.
        locality: Whether the attention is locality self-attention, as in `MultiHeadAttention`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        qkv_bias: bool = True,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        layer_scale: float | None = None,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        groups: int = 1,
        locality: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings: dict[str, Any] = {
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
            "groups": groups,
            "locality": locality,
        }
        dtype = self.dtype_policy
        self.norm1 = self._norm("norm1")
        self.attention = self._attention()
        self.norm2 = self._norm("norm2")
        self.mlp = self._mlp()
        if layer_scale is not None:
            self.layer_scale1 = LayerScale(layer_scale, dtype=dtype, name="layer_scale1")
            self.layer_scale2 = LayerScale(layer_scale, dtype=dtype, name="layer_scale2")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def _norm(self, name: str) -> keras.layers.Layer:
        """Return a normalization layer. Subclasses replace this to have another one."""
        return LayerNorm(self.settings["epsilon"], dtype=self.dtype_policy, name=name)

    def _attention(self) -> keras.layers.Layer:
        """Return the attention layer. Subclasses replace this to have another one."""
        names = ("width", "num_heads", "qkv_bias", "dropout_rate", "attention_dropout_rate", "groups", "locality")
        settings = {name: self.settings[name] for name in names}
        return MultiHeadSelfAttention(**settings, dtype=self.dtype_policy, name="attention")

    def _mlp(self) -> keras.layers.Layer:
        """Return the MLP. Subclasses replace this to have another one."""
        names = ("width", "mlp_dim", "activation", "dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return MLP(**settings, dtype=self.dtype_policy, name="mlp")

    def build(self, input_shape):
        for part in self.parts().values():
            if not isinstance(part, keras.layers.Add):
                part.build(input_shape)

    def call(self, tokens):
        branch = self.attention(self.norm1(tokens))
        if self.settings["layer_scale"] is not None:
            branch = self.layer_scale1(branch)
        tokens = self.add1([tokens, self.drop_path1(branch)])
        branch = self.mlp(self.norm2(tokens))
        if self.settings["layer_scale"] is not None:
            branch = self.layer_scale2(branch)
        return self.add2([tokens, self.drop_path2(branch)])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
