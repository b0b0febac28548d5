"""Root mean square normalization (Zhang and Sennrich, arXiv 1910.07467)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class RMSNorm(keras.layers.Layer):
    """Divide the last axis by its root mean square, then scale it by a learned vector.

    Computes in float32 or higher precision, whatever the dtype policy.

    Args:
        epsilon: Added to the mean of the squares.
        affine: Whether there is a learned `gamma`. `keras_vit.fuse` moves it into the next layer.

    Input and output: (..., width).
    """

    def __init__(self, epsilon: float = 1e-5, affine: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.affine = affine

    def build(self, input_shape):
        if self.affine:
            self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        x = x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + self.epsilon)
        if self.affine:
            x = x * ops.cast(self.gamma, x.dtype)
        return ops.cast(x, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon, "affine": self.affine}
