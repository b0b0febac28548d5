"""Learned tokens that are the same for every image, as in Mobile-Former (Chen et al., arXiv 2108.05895, section 3)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class LearnedTokens(keras.layers.Layer):
    """Return the same learned tokens for every image of a batch.

    Args:
        num_tokens: Number of tokens.
        width: Width of a token.
        initializer: Initializer of the tokens; None is the standard normal distribution.

    Input: (batch, ...), of which only the batch size is used. Output: (batch, num_tokens, width).
    """

    def __init__(self, num_tokens: int, width: int, initializer: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.num_tokens = num_tokens
        self.width = width
        self.initializer = initializer

    def build(self, input_shape):
        self.tokens = self.add_weight(
            name="tokens",
            shape=(self.num_tokens, self.width),
            initializer=self.initializer or keras.initializers.RandomNormal(stddev=1.0),
        )

    def call(self, inputs):
        tokens = ops.cast(self.tokens, self.compute_dtype)
        return ops.broadcast_to(tokens, (ops.shape(inputs)[0], self.num_tokens, self.width))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_tokens, self.width)

    def get_config(self):
        return {
            **super().get_config(),
            "num_tokens": self.num_tokens,
            "width": self.width,
            "initializer": self.initializer,
        }
