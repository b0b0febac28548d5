"""Learned tokens, the same for every image: a former's (arXiv 2108.05895, section 3), a pooling's query."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class LearnedTokens(keras.layers.Layer):
    """The same learned tokens for every image of a batch.

    Args:
        num_tokens: How many.
        width: Width of a token.
        initializer: Of the tokens; the standard normal distribution where None.

    Input: (batch, ...); only the size of the batch is looked at. Output: (batch, num_tokens, width).
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
