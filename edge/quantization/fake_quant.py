"""Layers that compute in float with the rounding of integers, to train with it (Jacob et al., arXiv 1712.05877)."""

import os
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_vit.edge.quantization.schemes import Scheme
from keras_vit.utils.missing import needs


def _tfmot_quantizers():
    """Return tensorflow-model-optimization's quantizers, which use plain TensorFlow operations and any variables.

    Importing that package asks for Keras 2 in the whole process, by setting an environment variable that `tf.keras`
    reads when it is first used. Therefore `tf.keras` is used first, and the variable is restored.
    """
    tf.keras.version()
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        with needs("tensorflow-model-optimization", "quantization-aware training", "edge"):
            from tensorflow_model_optimization.python.core.quantization.keras import quantizers
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return quantizers


@keras.saving.register_keras_serializable("keras_vit")
class QuantizationScheme(keras.layers.Layer):
    """Record the scheme of a quantized model, in the model. The layer returns its input as it is.

    Args:
        scheme: The scheme's attributes, as `Scheme.to_dict` returns them.

    Input and output: any shape.
    """

    is_of_a_quantized_model = True  # For `keras_vit.resize_model` and `keras_vit.new_head`, which take float models.

    def __init__(self, scheme: dict, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.scheme = Scheme.from_dict(scheme)

    def call(self, inputs):
        return inputs

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "scheme": self.scheme.to_dict()}


@keras.saving.register_keras_serializable("keras_vit")
class FakeQuant(keras.layers.Layer):
    """Round an activation to a grid of integers. The gradient passes unchanged inside the range.

    In training, a range that is not fixed follows the data as a moving average. `quantize_aware` sets its initial
    value. The layer computes in float32 under every dtype policy.

    Args:
        bits: Number of bits of an integer.
        symmetric: Whether zero is in the middle of the range.
        limits: The smallest and the largest value of a fixed range; None for one that follows the data.

    Input and output: any shape.
    """

    def __init__(self, bits: int = 8, symmetric: bool = True, limits: tuple[float, float] | None = None, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.bits, self.symmetric = bits, symmetric
        self.limits = None if limits is None else (limits[0], limits[1])
        self.quantizer = _tfmot_quantizers().MovingAverageQuantizer(
            num_bits=bits, per_axis=False, symmetric=symmetric, narrow_range=symmetric
        )

    def build(self, input_shape):
        def bound(name, value):
            return self.add_weight(
                name=name,
                shape=(),
                initializer=keras.initializers.Constant(value),
                trainable=False,
                aggregation="mean",
            )

        if self.limits is None:
            self.minimum = bound("minimum", -6.0)
            self.maximum = bound("maximum", 6.0)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value on the grid."""
        if self.limits is not None:
            return self.limits
        low, high = (float(ops.convert_to_numpy(bound)) for bound in (self.minimum, self.maximum))
        return (-max(-low, high), max(-low, high)) if self.symmetric else (min(low, 0.0), max(high, 0.0))

    @range.setter
    def range(self, limits: tuple[float, float]):
        if self.limits is not None:
            raise ValueError(f"The range of {self.name!r} is fixed.")
        low, high = limits
        if self.symmetric:
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
        self.minimum.assign(low)
        self.maximum.assign(high)

    def call(self, inputs, training=False):
        if self.limits is not None:
            return tf.quantization.fake_quant_with_min_max_args(inputs, *self.limits, num_bits=self.bits)
        bounds = {"min_var": self.minimum.value, "max_var": self.maximum.value}
        return self.quantizer(inputs, training=bool(training), weights=bounds)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "bits": self.bits, "symmetric": self.symmetric, "limits": self.limits}


def on_grid(kernel, bits: int = 8):
    """Round a kernel to integers, symmetrically and per channel of its last axis, as the file will store it.

    The range of a channel is its largest magnitude, so nothing is clipped and the gradient passes unchanged.

    Args:
        kernel: A tensor of shape (..., channels).
        bits: Number of bits of an integer.

    Returns:
        A tensor of the same shape and dtype.
    """
    kernel = tf.convert_to_tensor(kernel)
    flat = tf.reshape(tf.cast(kernel, tf.float32), (-1, kernel.shape[-1]))
    limit = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), 1e-12))
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -limit, limit, bits, narrow_range=True)
    return tf.cast(tf.reshape(rounded, kernel.shape), kernel.dtype)


class WithRoundedKernel:
    """What layers that compute with their kernel rounded to integers have in common.

    Besides the bias, they add a correction for what rounding does to the mean of each output channel, see
    `keras_vit.edge.quantization.bias_correction`. A file has the sum of both.

    Args:
        bits: Number of bits of an integer.
    """

    # Attributes of Keras' layers, for type checkers.
    use_bias: bool
    activation: Any
    kernel: Any
    bias: Any
    _inbound_nodes: list

    def __init__(self, *args, bits: int = 8, **kwargs):
        super().__init__(*args, **kwargs)
        self.bits = bits

    def build(self, input_shape):
        super().build(input_shape)
        self.correction = None
        if self.use_bias:
            self.correction = self.add_weight(
                name="correction", shape=self.bias.shape, initializer="zeros", trainable=False, aggregation="mean"
            )

    def _activated(self, outputs):
        return self.activation(outputs + self.bias + self.correction if self.use_bias else outputs)

    def rounded_kernel(self):
        """Return the kernel as the file will store it."""
        return on_grid(self.kernel, self.bits)

    # Keras' own layers save and load their kernel and bias by name, and leave out other weights.
    def save_own_variables(self, store):
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def without_rounding(self, inputs):
        """Return what the layer gives with the kernel as it is."""
        return super().call(inputs)

    def get_config(self):
        return {**super().get_config(), "bits": self.bits}


@keras.saving.register_keras_serializable("keras_vit")
class QuantizedDense(WithRoundedKernel, keras.layers.Dense):
    """A dense layer that computes with its kernel rounded to integers."""

    def call(self, inputs):
        outputs = ops.matmul(inputs, self.rounded_kernel())
        return self._activated(outputs)


@keras.saving.register_keras_serializable("keras_vit")
class QuantizedConv2D(WithRoundedKernel, keras.layers.Conv2D):
    """A convolution that computes with its kernel rounded to integers."""

    def call(self, inputs):
        outputs = ops.conv(
            inputs,
            self.rounded_kernel(),
            list(self.strides),
            self.padding,
            self.data_format,
            self.dilation_rate,
        )
        return self._activated(outputs)


@keras.saving.register_keras_serializable("keras_vit")
class QuantizedDepthwiseConv2D(WithRoundedKernel, keras.layers.DepthwiseConv2D):
    """A depthwise convolution that computes with its kernel rounded to integers, with one range per output channel."""

    def rounded_kernel(self):
        flat = ops.reshape(self.kernel, (*self.kernel_size, -1))
        return ops.reshape(on_grid(flat, self.bits), self.kernel.shape)

    def call(self, inputs):
        outputs = ops.depthwise_conv(
            inputs,
            self.rounded_kernel(),
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
        )
        return self._activated(outputs)
