"""Layers that compute in float with int8's rounding, to train with it (Jacob et al., arXiv 1712.05877)."""

import os

import keras
import tensorflow as tf
from keras import ops

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
class FakeQuant(keras.layers.Layer):
    """Round an activation to the int8 grid of a symmetric range. The gradient passes unchanged inside the range.

    In training, the range follows the data as a moving average. `quantize_aware` sets its initial value. The layer
    computes in float32 under every dtype policy.

    Input and output: any shape.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.quantizer = _tfmot_quantizers().MovingAverageQuantizer(
            num_bits=8, per_axis=False, symmetric=True, narrow_range=True
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

        self.minimum = bound("minimum", -6.0)
        self.maximum = bound("maximum", 6.0)

    @property
    def limit(self) -> float:
        """The largest magnitude on the grid. One step of the grid is `limit / 127`."""
        return max(abs(float(ops.convert_to_numpy(bound))) for bound in (self.minimum, self.maximum))

    @limit.setter
    def limit(self, value: float):
        self.minimum.assign(-value)
        self.maximum.assign(value)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value on the grid."""
        return -self.limit, self.limit

    def call(self, inputs, training=False):
        bounds = {"min_var": self.minimum.value, "max_var": self.maximum.value}
        return self.quantizer(inputs, training=bool(training), weights=bounds)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@keras.saving.register_keras_serializable("keras_vit")
class SigmoidGrid(keras.layers.Layer):
    """Round the output of a sigmoid to the grid that TensorFlow Lite uses for it: 256 values from 0 in steps of 1/256.

    Input and output: any shape.
    """

    range = (0.0, 255 / 256)

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs):
        return tf.quantization.fake_quant_with_min_max_args(inputs, *self.range, num_bits=8)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


def on_grid(kernel):
    """Round a kernel to int8, symmetrically and per channel of its last axis, as the file will store it.

    The range of a channel is its largest magnitude, so nothing is clipped and the gradient passes unchanged.

    Args:
        kernel: A tensor of shape (..., channels).

    Returns:
        A tensor of the same shape and dtype.
    """
    kernel = tf.convert_to_tensor(kernel)
    flat = tf.reshape(tf.cast(kernel, tf.float32), (-1, kernel.shape[-1]))
    limit = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), 1e-12))
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(flat, -limit, limit, 8, narrow_range=True)
    return tf.cast(tf.reshape(rounded, kernel.shape), kernel.dtype)


@keras.saving.register_keras_serializable("keras_vit")
class QuantizedDense(keras.layers.Dense):
    """A dense layer that computes with its kernel rounded to int8."""

    def call(self, inputs):
        outputs = ops.matmul(inputs, on_grid(self.kernel))
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable("keras_vit")
class QuantizedConv2D(keras.layers.Conv2D):
    """A convolution that computes with its kernel rounded to int8."""

    def call(self, inputs):
        outputs = ops.conv(
            inputs,
            on_grid(self.kernel),
            list(self.strides),
            self.padding,
            self.data_format,
            self.dilation_rate,
        )
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable("keras_vit")
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """A depthwise convolution that computes with its kernel rounded to int8, with one range per output channel."""

    def call(self, inputs):
        height, width, channels, multiplier = self.kernel.shape
        kernel = on_grid(ops.reshape(self.kernel, (height, width, channels * multiplier)))
        outputs = ops.depthwise_conv(
            inputs,
            ops.reshape(kernel, (height, width, channels, multiplier)),
            self.strides,
            self.padding,
            self.data_format,
            self.dilation_rate,
        )
        return self.activation(outputs + self.bias if self.use_bias else outputs)
