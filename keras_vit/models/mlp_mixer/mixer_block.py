"""The Mixer layer (Tolstikhin et al., arXiv 2105.01601, section 2 and figure 1)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.drop_path import DropPath
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.mlp import MLP


@keras.saving.register_keras_serializable("keras_vit")
class MixerBlock(Composite):
    """Apply an MLP to each channel over all tokens, then an MLP to each token over all channels.

    Each MLP follows a normalization and is a residual branch with stochastic depth.

    Args:
        num_tokens: Number of tokens.
        width: Width of a token.
        token_mlp_dim: Units between the two dense layers of the MLP over the tokens.
        channel_mlp_dim: Units between the two dense layers of the MLP over the channels.
        activation: Name of the activation of both MLPs, as in `MLP`.
        epsilon: Added to the variance in both normalizations.
        drop_path_rate: Rate of stochastic depth of each branch.
        dropout_rate: Dropout rate in both MLPs.

    Input and output: (batch, num_tokens, width).
    """

    def __init__(
        self,
        num_tokens: int,
        width: int,
        token_mlp_dim: int,
        channel_mlp_dim: int,
        activation: str = "gelu",
        epsilon: float = 1e-6,
        drop_path_rate: float = 0.0,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "num_tokens": num_tokens,
            "width": width,
            "token_mlp_dim": token_mlp_dim,
            "channel_mlp_dim": channel_mlp_dim,
            "activation": activation,
            "epsilon": epsilon,
            "drop_path_rate": drop_path_rate,
            "dropout_rate": dropout_rate,
        }
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(epsilon, dtype=dtype, name="norm1")
        self.token_mixing = MLP(num_tokens, token_mlp_dim, activation, dropout_rate, dtype=dtype, name="token_mixing")
        self.drop_path1 = DropPath(drop_path_rate, dtype=dtype, name="drop_path1")
        self.add1 = keras.layers.Add(dtype=dtype, name="add1")
        self.norm2 = LayerNorm(epsilon, dtype=dtype, name="norm2")
        self.channel_mixing = MLP(width, channel_mlp_dim, activation, dropout_rate, dtype=dtype, name="channel_mixing")
        self.drop_path2 = DropPath(drop_path_rate, dtype=dtype, name="drop_path2")
        self.add2 = keras.layers.Add(dtype=dtype, name="add2")

    def build(self, input_shape):
        batch, tokens, width = input_shape
        if (tokens, width) != (self.settings["num_tokens"], self.settings["width"]):
            raise ValueError(
                f"MixerBlock expects (batch, {self.settings['num_tokens']}, {self.settings['width']}), since its "
                f"weights depend on the number of tokens; received the shape {tuple(input_shape)}."
            )
        self.norm1.build(input_shape)
        self.token_mixing.build((batch, width, tokens))
        self.norm2.build(input_shape)
        self.channel_mixing.build(input_shape)

    def call(self, tokens):
        channels = ops.transpose(self.norm1(tokens), (0, 2, 1))
        branch = ops.transpose(self.token_mixing(channels), (0, 2, 1))
        tokens = self.add1([tokens, self.drop_path1(branch)])
        return self.add2([tokens, self.drop_path2(self.channel_mixing(self.norm2(tokens)))])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}
