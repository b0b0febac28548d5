"""Stochastic depth (Huang et al., arXiv 1603.09382, section 3), which drops residual branches of whole samples."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class DropPath(keras.layers.Layer):
    """Set each sample to zero with probability `rate` in training, and scale the others by 1 / (1 - rate).

    Args:
        rate: Probability of dropping a sample, in [0, 1).
        leading_axes: Number of axes at the beginning whose elements are samples: 1 for the images of a batch, 2 for the
            patches of each image.
        seed: Seed of the layer's random generator, or None for one drawn from Keras' global seed.

    Input and output: (batch, ...).

    Raises:
        ValueError: The rate is not in [0, 1).
    """

    identity_in_inference = True  # `keras_vit.fuse` removes it.

    def __init__(self, rate: float = 0.0, seed: int | None = None, leading_axes: int = 1, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and below 1; received rate={rate}.")
        self.rate = rate
        self.seed = seed
        self.leading_axes = leading_axes
        if rate:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        samples = ops.shape(inputs)[: self.leading_axes]
        shape = (*samples, *(1,) * (len(inputs.shape) - len(samples)))
        keep = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * (ops.cast(keep, inputs.dtype) / (1 - self.rate))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed, "leading_axes": self.leading_axes}
