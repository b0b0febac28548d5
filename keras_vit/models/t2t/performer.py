"""Attention by random features, as in Performer (Choromanski et al., arXiv 2009.14794, section 2.3, lemma 1)."""

import math

import keras
from keras import ops

_EPSILON = 1e-8  # Added to the divisor.


@keras.saving.register_keras_serializable("keras_vit")
class PerformerAttention(keras.layers.Layer):
    """Approximate softmax attention with positive random features, at a cost linear in the number of tokens.

    Queries and keys are projected here, since they are exponents of the features: rounding them to int8 would multiply
    the features by random factors. The layer computes in float32 or higher precision, whatever the dtype policy and the
    quantization scheme, because its sums are over all tokens and its divisor can be small.

    The matrix of the features is drawn once and is not trained. It is saved with the weights, and a model with another
    matrix gives other outputs.

    Args:
        width: Width of queries and keys.
        num_features: Number of random features.

    Inputs: tokens (batch, tokens, input width) and values (batch, tokens, value width).
    Output: (batch, tokens, value width).
    """

    def __init__(self, width: int, num_features: int, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.num_features = num_features

    def build(self, tokens_shape, values_shape):
        for name in ("key", "query"):
            kernel = self.add_weight(
                name=f"{name}_kernel", shape=(tokens_shape[-1], self.width), initializer="glorot_uniform"
            )
            setattr(self, f"{name}_kernel", kernel)
            setattr(
                self, f"{name}_bias", self.add_weight(name=f"{name}_bias", shape=(self.width,), initializer="zeros")
            )
        self.random_matrix = self.add_weight(
            name="random_matrix",
            shape=(self.num_features, self.width),
            initializer=keras.initializers.Orthogonal(math.sqrt(self.num_features)),
            trainable=False,
        )

    def call(self, tokens, values):
        dtype = keras.backend.result_type(tokens.dtype, "float32")
        tokens, floats = ops.cast(tokens, dtype), ops.cast(values, dtype)
        keys = self._features(tokens, self.key_kernel, self.key_bias)
        queries = self._features(tokens, self.query_kernel, self.query_bias)
        memory = ops.matmul(ops.swapaxes(keys, 1, 2), floats)
        divisor = ops.matmul(queries, ops.swapaxes(ops.sum(keys, axis=1, keepdims=True), 1, 2))
        return ops.cast(ops.matmul(queries, memory) / (divisor + _EPSILON), values.dtype)

    def _features(self, tokens, kernel, bias):
        """Return the random features (batch, tokens, features) of queries or keys."""
        x = ops.matmul(tokens, ops.cast(kernel, tokens.dtype)) + ops.cast(bias, tokens.dtype)
        exponents = ops.matmul(x, ops.transpose(ops.cast(self.random_matrix, x.dtype)))
        return ops.exp(exponents - ops.sum(x * x, axis=-1, keepdims=True) / 2) * self.num_features**-0.5

    def compute_output_shape(self, tokens_shape, values_shape):
        return tuple(values_shape)

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates for one image, with values as wide as the queries."""
        _, tokens, width = input_shape
        return tokens * (2 * self.width * (width + 2 * self.num_features) + self.num_features)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "num_features": self.num_features}
