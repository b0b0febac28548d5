"""Multi-head attention pooling, the MAP head (Zhai et al., arXiv 2106.04560, section 2.4; after arXiv 1810.00825)."""

import keras

from keras_vit.layers.attention import MultiHeadAttention
from keras_vit.layers.composite import Composite
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.learned_tokens import LearnedTokens
from keras_vit.layers.mlp import MLP
from keras_vit.layers.pooling import TokenPooling


@keras.saving.register_keras_serializable("keras_vit")
class AttentionPooling(Composite):
    """Compute y, the attention of a learned probe to the tokens, and return y + mlp(norm(y)).

    As in the authors' code, the tokens are not normalized here, and the probe is not added to the attention's output.

    Args:
        width: Width of a token.
        num_heads: Number of attention heads.
        mlp_dim: Units between the two dense layers of the MLP.
        activation: Name of the MLP's activation, as in `MLP`.
        epsilon: Added to the variance in the normalization.

    Input: (batch, tokens, width) with a fixed number of tokens. Output: (batch, width).
    """

    def __init__(
        self, width: int, num_heads: int, mlp_dim: int, activation: str = "gelu", epsilon: float = 1e-6, **kwargs
    ):
        super().__init__(**kwargs)
        self.settings = {
            "width": width,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
            "activation": activation,
            "epsilon": epsilon,
        }
        dtype = self.dtype_policy
        self.probe = LearnedTokens(1, width, "glorot_uniform", dtype=dtype, name="probe")
        self.attention = MultiHeadAttention(width, num_heads, dtype=dtype, name="attention")
        self.norm = LayerNorm(epsilon, dtype=dtype, name="norm")
        self.mlp = MLP(width, mlp_dim, activation, dtype=dtype, name="mlp")
        self.add = keras.layers.Add(dtype=dtype, name="add")
        self.token = TokenPooling(dtype=dtype, name="token")

    def build(self, input_shape):
        self.probe.build(input_shape)
        pooled = (input_shape[0], 1, input_shape[2])
        self.attention.build(pooled, input_shape)
        self.norm.build(pooled)
        self.mlp.build(pooled)

    def call(self, tokens):
        pooled = self.attention(self.probe(tokens), tokens)
        return self.token(self.add([pooled, self.mlp(self.norm(pooled))]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])

    def get_config(self):
        return {**super().get_config(), **self.settings}
