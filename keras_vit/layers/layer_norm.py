"""Layer normalization (Ba et al., arXiv 1607.06450)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class LayerNorm(keras.layers.Layer):
    """Normalize the last axis to mean 0 and variance 1, then scale and shift it by learned vectors.

    Computes in float32 or higher precision, whatever the dtype policy. It differs from
    `keras.layers.LayerNormalization` in the exported graph, which has only the operations of the formula. The CPU
    delegate runs all of them.

    Args:
        epsilon: Added to the variance. The reference ViTs use 1e-6; Keras' default is 1e-3.
        affine: Whether there are learned `gamma` and `beta`. `keras_vit.fuse` moves them into the next layer.
        subtract_mean: Whether to subtract the mean. `keras_vit.fuse` sets this to False where the mean is always zero.
        gamma_initializer: Initializer of `gamma`. With "zeros", a residual branch that ends in the norm starts as zero.

    Input and output: (..., width).
    """

    def __init__(
        self,
        epsilon: float = 1e-6,
        affine: bool = True,
        subtract_mean: bool = True,
        gamma_initializer: str = "ones",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.affine = affine
        self.subtract_mean = subtract_mean
        self.gamma_initializer = gamma_initializer

    def build(self, input_shape):
        if self.affine:
            self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer=self.gamma_initializer)
            self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        if self.subtract_mean:
            x = x - ops.mean(x, axis=-1, keepdims=True)
        x = x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        if self.affine:
            x = x * ops.cast(self.gamma, x.dtype) + ops.cast(self.beta, x.dtype)
        return ops.cast(x, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "affine": self.affine,
            "subtract_mean": self.subtract_mean,
            "gamma_initializer": self.gamma_initializer,
        }
