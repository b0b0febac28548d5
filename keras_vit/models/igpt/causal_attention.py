"""The attention of iGPT, in which a pixel sees only those before it (Chen et al., 2020, section 2.3)."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers import MLP, RMSNorm, TransformerBlock
from keras_vit.layers.attention import MultiHeadSelfAttention
from keras_vit.layers.heads import merge_heads, split_heads

# As in `DiagonalMask`: float16 can represent it, and its exponential is 0 beside that of any score.
_BELOW = -(2.0**15)


@keras.saving.register_keras_serializable("keras_vit")
class CausalMask(keras.layers.Layer):
    """Mask the scores of each token for all later tokens, so that a softmax over the last axis makes them 0.

    Its dtype should be that of the softmax, float32 or higher.

    Input and output: (..., tokens, tokens).
    """

    def call(self, scores):
        return scores + ops.convert_to_tensor(causal_mask(scores.shape[-1]), scores.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


def causal_mask(tokens: int) -> np.ndarray:
    """Return what is added to scores (..., tokens, tokens): 0 for each token and those before it, in float32."""
    return np.triu(np.full((tokens, tokens), _BELOW, "float32"), 1)


@keras.saving.register_keras_serializable("keras_vit")
class CausalSelfAttention(MultiHeadSelfAttention):
    """Compute softmax attention of each token to itself and the tokens before it. No layer has a bias.

    Args:
        width: Width of a token.
        num_heads: Number of heads, a divisor of `width`.
        dropout_rate: Dropout rate after the output projection.
        attention_dropout_rate: Dropout rate of the attention probabilities.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(
            width,
            num_heads,
            qkv_bias=False,
            dropout_rate=dropout_rate,
            attention_dropout_rate=attention_dropout_rate,
            **kwargs,
        )
        self.mask = CausalMask(dtype=self.softmax.dtype_policy, name="mask")

    def _output_projection(self):
        return keras.layers.Dense(self.width, use_bias=False, dtype=self.dtype_policy, name="projection")

    def probabilities(self, scores):
        return self.softmax(self.mask(scores))

    def step(self, token, keys, values, position):
        """Compute the attention of a single token, with the keys and values of the tokens before it.

        Args:
            token: (batch, 1, width).
            keys: The keys of all tokens, (batch, tokens, width). Those from this token on do not count.
            values: The values of all tokens, likewise.
            position: The number of tokens before this one, an integer tensor.

        Returns:
            The output (batch, 1, width), and the keys and values with those of this token.
        """
        keys = ops.slice_update(keys, (0, position, 0), self.key(token))
        values = ops.slice_update(values, (0, position, 0), self.value(token))
        query = split_heads(self.scale(self.query(token)), self.num_heads)
        scores = self.scores(query, split_heads(keys, self.num_heads))
        later = ops.cast(ops.arange(keys.shape[1]) > position, self.softmax.compute_dtype)
        probabilities = self.softmax(ops.cast(scores, self.softmax.compute_dtype) + later * _BELOW)
        context = merge_heads(self.context(probabilities, split_heads(values, self.num_heads)))
        return self.projection(context), keys, values

    def get_config(self):
        config = super().get_config()
        for name in ("qkv_bias", "groups", "locality"):
            del config[name]
        return config


@keras.saving.register_keras_serializable("keras_vit")
class CausalBlock(TransformerBlock):
    """Compute a transformer block with `CausalSelfAttention` and `RMSNorm`. No layer has a bias.

    Args:
        args, kwargs: Arguments of `TransformerBlock`.

    Input and output: (batch, tokens, width), with a fixed number of tokens.
    """

    def _norm(self, name):
        return RMSNorm(self.settings["epsilon"], dtype=self.dtype_policy, name=name)

    def _attention(self):
        names = ("width", "num_heads", "dropout_rate", "attention_dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return CausalSelfAttention(**settings, dtype=self.dtype_policy, name="attention")

    def _mlp(self):
        names = ("width", "mlp_dim", "activation", "dropout_rate")
        settings = {name: self.settings[name] for name in names}
        return MLP(**settings, use_bias=False, dtype=self.dtype_policy, name="mlp")

    def step(self, token, keys, values, position):
        """Compute the block for a single token. Takes and returns the same as `CausalSelfAttention.step`."""
        branch, keys, values = self.attention.step(self.norm1(token), keys, values, position)
        token = token + branch
        return token + self.mlp(self.norm2(token)), keys, values
