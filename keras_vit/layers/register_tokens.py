"""Register tokens (Darcet et al., arXiv 2309.16588, section 2.2)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class RegisterTokens(keras.layers.Layer):
    """Insert learned tokens after the first tokens of a sequence.

    Args:
        count: Number of registers.
        after: Number of tokens in front of them: 1 with a class token, 0 without.

    Input: (batch, tokens, width). Output: (batch, tokens + count, width).
    """

    def __init__(self, count: int, after: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.after = after

    def build(self, input_shape):
        # Not zeros, since registers that start equal would stay equal.
        self.tokens = self.add_weight(
            name="tokens",
            shape=(1, self.count, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, tokens):
        registers = ops.broadcast_to(
            ops.cast(self.tokens, tokens.dtype), (ops.shape(tokens)[0], self.count, tokens.shape[-1])
        )
        if not self.after:
            return ops.concatenate([registers, tokens], axis=1)
        return ops.concatenate([tokens[:, : self.after], registers, tokens[:, self.after :]], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + self.count, input_shape[2])

    def get_config(self):
        return {**super().get_config(), "count": self.count, "after": self.after}
