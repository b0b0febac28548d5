"""Layers that are exactly one integer operator, where neither Keras nor keras_vit has such a layer."""

import keras
import tensorflow as tf
from keras import ops


class _WithConstant(keras.layers.Layer):
    """What the two layers with a constant operand have in common.

    Args:
        shape: Shape of the constant, which broadcasts to the input.
        bits: Bits of an integer that the constant is rounded to; None for a constant of floats.
    """

    def __init__(self, shape: tuple[int, ...], bits: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.bits = bits

    def build(self, input_shape):
        self.constant = self.add_weight(name="constant", shape=self.shape, initializer="ones")

    def constant_range(self):
        """Return the smallest and the largest value on the constant's grid. It has 0, and is symmetric for 16 bits."""
        low, high = tf.reduce_min(self.constant), tf.reduce_max(self.constant)
        if self.bits == 16:
            high = tf.maximum(tf.maximum(-low, high), 1e-12)
            return -high, high
        return tf.minimum(low, 0.0), tf.maximum(high, tf.where(low < 0, 0.0, 1e-12))

    def rounded_constant(self):
        """Return the constant as the file will store it."""
        if self.bits is None:
            return self.constant
        low, high = (tf.stop_gradient(end) for end in self.constant_range())
        constant = tf.convert_to_tensor(self.constant)
        # A narrow range for 16 bits, since it is symmetric.
        return tf.quantization.fake_quant_with_min_max_vars(constant, low, high, self.bits, self.bits == 16)

    def compute_output_shape(self, input_shape):
        rank = max(len(input_shape), len(self.shape))
        padded = ((1,) * (rank - len(each)) + tuple(each) for each in (input_shape, self.shape))
        return tuple(a if b == 1 else b for a, b in zip(*padded, strict=True))

    def get_config(self):
        return {**super().get_config(), "shape": self.shape, "bits": self.bits}


@keras.saving.register_keras_serializable("keras_vit")
class AddConstant(_WithConstant):
    """Add a constant, or a learned one such as a position embedding.

    Args:
        shape: Shape of the constant, which broadcasts to the input.
        bits: Bits of an integer that the constant is rounded to; None for a constant of floats.

    Input and output: any shape.
    """

    def call(self, inputs):
        return inputs + self.rounded_constant()


@keras.saving.register_keras_serializable("keras_vit")
class MultiplyConstant(_WithConstant):
    """Multiply by a constant, or by a learned one such as the scale of a normalization.

    Args:
        shape: Shape of the constant, which broadcasts to the input.
        bits: Bits of an integer that the constant is rounded to; None for a constant of floats.

    Input and output: any shape.
    """

    def call(self, inputs):
        return inputs * self.rounded_constant()


@keras.saving.register_keras_serializable("keras_vit")
class ReciprocalRoot(keras.layers.Layer):
    """Return 1 / sqrt(max(x, floor)).

    The integer operator gives the largest value of its grid for 0, so an epsilon that is less than one step of the
    input's grid has no effect there. The floor keeps the gradient finite. Calibration raises it to one step.

    Args:
        epsilon: Initial value of the floor.

    Input and output: any shape, of numbers that are not negative.
    """

    def __init__(self, epsilon: float = 1e-12, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.floor = self.add_weight(
            name="floor", shape=(), initializer=keras.initializers.Constant(self.epsilon), trainable=False
        )

    def call(self, inputs):
        return ops.rsqrt(ops.maximum(inputs, self.floor))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
