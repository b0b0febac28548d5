"""Multiplication by constant or learned factors, and addition of constant or learned offsets."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class Scale(keras.layers.Layer):
    """Multiply by a constant.

    Args:
        factor: The constant.

    Input and output: any shape.
    """

    def __init__(self, factor: float, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * ops.cast(self.factor, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("keras_vit")
class Shift(keras.layers.Layer):
    """Add a constant.

    Args:
        offset: The constant.

    Input and output: any shape.
    """

    def __init__(self, offset: float, **kwargs):
        super().__init__(**kwargs)
        self.offset = offset

    def call(self, inputs):
        return inputs + ops.cast(self.offset, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "offset": self.offset}


@keras.saving.register_keras_serializable("keras_vit")
class LayerScale(keras.layers.Layer):
    """Multiply each channel by a learned factor (Touvron et al., arXiv 2103.17239, section 2).

    Args:
        init: Initial value of every factor.

    Input and output: (..., width).
    """

    def __init__(self, init: float = 1e-4, **kwargs):
        super().__init__(**kwargs)
        self.init = init

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.init)
        )

    def call(self, inputs):
        return inputs * ops.cast(self.gamma, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "init": self.init}


@keras.saving.register_keras_serializable("keras_vit")
class Affine(keras.layers.Layer):
    """Multiply each channel by a learned factor and add a learned offset, as a normalization does at its end.

    Input and output: (..., width).
    """

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs):
        return inputs * ops.cast(self.gamma, inputs.dtype) + ops.cast(self.beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class HeadScale(keras.layers.Layer):
    """Multiply the channels of each attention head by a learned factor.

    Applied to the queries, the factor is one over the temperature of locality self-attention (Lee et al., arXiv
    2112.13492, section 3.3), which is what the authors' code learns. `keras_vit.fuse` moves it into the layer that
    computes the queries.

    Args:
        num_heads: Number of heads, a divisor of `width`; each is a run of neighboring channels.
        init: Initial value of every factor.

    Input and output: (..., width).
    """

    def __init__(self, num_heads: int, init: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.init = init

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma", shape=(self.num_heads,), initializer=keras.initializers.Constant(self.init)
        )

    def call(self, inputs):
        channels = ops.repeat(self.gamma, inputs.shape[-1] // self.num_heads)
        return inputs * ops.cast(channels, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "init": self.init}
