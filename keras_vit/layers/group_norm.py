"""Group normalization (Wu and He, arXiv 1803.08494) with a single group."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class GroupNorm(keras.layers.Layer):
    """Normalize all values of an image together to mean 0 and variance 1, then scale and shift each channel.

    Computes in float32 or higher precision, whatever the dtype policy.

    Args:
        epsilon: Added to the variance; 1e-5 is PyTorch's default.
        affine: Whether there are learned `gamma` and `beta`. `keras_vit.fuse` moves them into the next layer.

    Input and output: (batch, ..., channels).
    """

    def __init__(self, epsilon: float = 1e-5, affine: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.affine = affine

    def build(self, input_shape):
        if self.affine:
            self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
            self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        image = tuple(range(1, len(x.shape)))
        x = x - ops.mean(x, axis=image, keepdims=True)
        x = x * ops.rsqrt(ops.mean(x * x, axis=image, keepdims=True) + self.epsilon)
        if self.affine:
            x = x * ops.cast(self.gamma, x.dtype) + ops.cast(self.beta, x.dtype)
        return ops.cast(x, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon, "affine": self.affine}
