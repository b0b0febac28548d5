"""Multiplication by a constant or by learned factors, and addition of a constant or a learned one."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class Scale(keras.layers.Layer):
    """Multiplies by a constant factor. Input and output: any shape."""

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
    """Adds a constant. Input and output: any shape."""

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
    """Multiplies each channel by a learned factor (Touvron et al., arXiv 2103.17239, section 2).

    Args:
        init: Initial value of every factor.

    Input and output: (..., dim).
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
    """Multiplies each channel by a learned factor and adds a learned constant, as a norm does at its end.

    Input and output: (..., dim).
    """

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs):
        return inputs * ops.cast(self.gamma, inputs.dtype) + ops.cast(self.beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        # Keras can't write down by itself a layer that was given a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class HeadScale(keras.layers.Layer):
    """Multiplies each attention head's channels by a learned factor.

    On the queries that is one over the temperature of locality self-attention (Lee et al., arXiv 2112.13492, section
    3.3), in the form that the authors' code learns. There it folds into the layer that makes the queries.

    Args:
        num_heads: Number of heads; each is a run of neighbouring channels.
        init: Initial value of every factor.

    Input and output: (..., dim), where the heads divide dim.
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
