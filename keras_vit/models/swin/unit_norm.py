"""The normalization of queries and keys in cosine attention (Liu et al., arXiv 2111.09883, section 3.2, equation 2)."""

import math

import keras
from keras import ops

_EPSILON = 1e-24  # Added to the squared length; the authors' code takes the larger of the length and 1e-12.
_LARGEST = math.log(100)


@keras.saving.register_keras_serializable("keras_vit")
class UnitNorm(keras.layers.Layer):
    """Divide vectors by their length, and multiply those of each head by a learned factor if `scaled`.

    The factor is one over the temperature of the attention. Its logarithm is learned; the factor starts at 10 and is at
    most 100. The layer computes in float32 or higher precision, whatever the dtype policy.

    Args:
        scaled: Whether there is a factor.

    Input and output: (batch, heads, tokens, head width).
    """

    def __init__(self, scaled: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.scaled = scaled

    def build(self, input_shape):
        if self.scaled:
            self.logit_scale = self.add_weight(
                name="logit_scale",
                shape=(input_shape[1], 1, 1),
                initializer=keras.initializers.Constant(math.log(10)),
            )

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        factor = ops.rsqrt(ops.sum(x * x, axis=-1, keepdims=True) + _EPSILON)
        if self.scaled:
            factor = factor * ops.exp(ops.minimum(ops.cast(self.logit_scale, x.dtype), _LARGEST))
        return ops.cast(x * factor, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "scaled": self.scaled}
