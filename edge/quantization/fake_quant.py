"""Layers that compute in float with the rounding of integers, to train with it (Jacob et al., arXiv 1712.05877)."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_vit.edge.quantization.learned_steps import learned_rounding
from keras_vit.edge.quantization.schemes import Scheme
from keras_vit.utils.tfmot import tfmot


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


class LearnedSteps:
    """The learned steps of a layer's grids. The variable is their logarithm.

    An optimizer such as Adam, whose updates do not depend on the size of the gradient, then changes steps of all sizes
    by the same ratio, and they stay positive.

    Args:
        layer: The layer, which has the variables.
        shape: Shape of the steps.
    """

    def __init__(self, layer: keras.layers.Layer, shape: tuple[int, ...]):
        self._log = layer.add_weight(name="log_step", shape=shape, initializer="zeros")
        # Momentum moves a variable even after its gradient is zero. These are used instead.
        self._frozen_log = layer.add_weight(
            name="frozen_log_step", shape=shape, initializer="zeros", trainable=False, aggregation="mean"
        )

    def __call__(self, frozen: bool):
        """Return the steps."""
        log = tf.convert_to_tensor(self._log)
        return tf.exp(tf.convert_to_tensor(self._frozen_log) + 0 * log if frozen else log)

    def set(self, steps) -> None:
        """Set the steps."""
        self._log.assign(np.log(steps))

    def freeze(self) -> None:
        """Remember the steps as they are."""
        self._frozen_log.assign(self._log)


@keras.saving.register_keras_serializable("keras_vit")
class FakeQuant(keras.layers.Layer):
    """Round an activation to a grid of integers. The gradient passes unchanged inside the range.

    In training, a range that has no limits follows the data as a moving average, or its step is learned and the integer
    for 0 stays the same, until the range is frozen. `quantize_aware` sets its initial value. The layer computes in
    float32 under every dtype policy.

    Args:
        bits: Number of bits of an integer.
        symmetric: Whether zero is in the middle of the range.
        limits: The smallest and the largest value of a fixed range; None for one that changes in training.
        learned: Whether the step is learned (`keras_vit.edge.quantization.learned_steps`).
        frozen: Whether the range stays as it is in training, see `freeze_ranges`.

    Input and output: any shape.
    """

    rounds = True  # For `keras_vit.training.gives_logits`.

    def __init__(
        self,
        bits: int = 8,
        symmetric: bool = True,
        limits: tuple[float, float] | None = None,
        learned: bool = False,
        frozen: bool = False,
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.bits, self.symmetric = bits, symmetric
        self.limits = None if limits is None else (limits[0], limits[1])
        self.learned, self.frozen = learned and limits is None, frozen
        quantizers = tfmot(tf, "quantization.keras.quantizers", "quantization-aware training")
        self.quantizer = quantizers.MovingAverageQuantizer(
            num_bits=bits, per_axis=False, symmetric=symmetric, narrow_range=symmetric
        )

    def build(self, input_shape):
        def number(name, value):
            return self.add_weight(
                name=name,
                shape=(),
                initializer=keras.initializers.Constant(value),
                trainable=False,
                aggregation="mean",
            )

        if self.learned:
            self.steps = LearnedSteps(self, ())
            self.lowest = number("lowest", -(2.0 ** (self.bits - 1)))
        elif self.limits is None:
            self.minimum = number("minimum", -6.0)
            self.maximum = number("maximum", 6.0)

    @property
    def _integers(self) -> int:
        """The largest integer minus the smallest one."""
        return 2**self.bits - (2 if self.symmetric else 1)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value on the grid."""
        if self.limits is not None:
            return self.limits
        if self.learned:
            step, lowest = (float(ops.convert_to_numpy(each)) for each in (self.steps(self.frozen), self.lowest))
            return lowest * step, (lowest + self._integers) * step
        low, high = (float(ops.convert_to_numpy(bound)) for bound in (self.minimum, self.maximum))
        return (-max(-low, high), max(-low, high)) if self.symmetric else (min(low, 0.0), max(high, 0.0))

    @range.setter
    def range(self, limits: tuple[float, float]):
        if self.limits is not None:
            raise ValueError(f"The range of {self.name!r} is fixed.")
        low, high = limits
        if self.symmetric:
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
        if self.learned:
            step = (high - low) / self._integers
            self.lowest.assign(round(low / step))
            self.steps.set(step)
        else:
            self.minimum.assign(low)
            self.maximum.assign(high)

    def freeze(self) -> None:
        """Keep the range as it is, also in training."""
        if self.learned and not self.frozen:
            self.steps.freeze()
        self.frozen = True

    def call(self, inputs, training=False):
        if self.limits is not None:
            return tf.quantization.fake_quant_with_min_max_args(inputs, *self.limits, num_bits=self.bits)
        if self.learned:
            lowest = tf.convert_to_tensor(self.lowest)
            count = math.prod(inputs.shape[1:])
            return learned_rounding(inputs, self.steps(self.frozen), lowest, lowest + self._integers, count)
        bounds = {"min_var": self.minimum.value, "max_var": self.maximum.value}
        return self.quantizer(inputs, training=bool(training) and not self.frozen, weights=bounds)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "bits": self.bits,
            "symmetric": self.symmetric,
            "limits": self.limits,
            "learned": self.learned,
            "frozen": self.frozen,
        }


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
        learned: Whether the step of each output channel is learned, instead of following the channel's largest
            magnitude.
        frozen: Whether learned steps stay as they are in training, see `freeze_ranges`.
    """

    # Attributes of Keras' layers, for type checkers.
    name: str
    use_bias: bool
    activation: Any
    kernel: Any
    bias: Any
    _inbound_nodes: list

    def __init__(self, *args, bits: int = 8, learned: bool = False, frozen: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.bits = bits
        self.learned, self.frozen = learned, frozen

    def build(self, input_shape):
        super().build(input_shape)
        if self.learned:
            self.steps = LearnedSteps(self, (self._by_channel().shape[-1],))
        self.correction = self.add_weight(
            name="correction",
            shape=(self._by_channel().shape[-1],),
            initializer="zeros",
            trainable=False,
            aggregation="mean",
        )

    def _activated(self, outputs):
        outputs = outputs + self.correction
        return self.activation(outputs + self.bias if self.use_bias else outputs)

    @property
    def corrected_bias(self) -> np.ndarray | None:
        """The bias that a file has; None if there is none, and nothing to correct."""
        correction = ops.convert_to_numpy(self.correction)
        if self.use_bias:
            return ops.convert_to_numpy(self.bias) + correction
        return correction if correction.any() else None

    def rounded_kernel(self):
        """Return the kernel as the file will store it."""
        kernel = self._by_channel()
        rounded = self._with_learned_steps(kernel) if self.learned else on_grid(kernel, self.bits)
        return tf.reshape(rounded, self.kernel.shape)

    def _by_channel(self):
        """Return the kernel with the channels that have a step each as the last axis."""
        return tf.convert_to_tensor(self.kernel)

    def _with_learned_steps(self, kernel):
        flat = tf.reshape(tf.cast(kernel, tf.float32), (-1, kernel.shape[-1]))
        highest = 2 ** (self.bits - 1) - 1
        step = self.steps(self.frozen)
        # A file stores the largest magnitude of a channel as the largest integer.
        largest = tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), 1e-12) / highest
        step += tf.stop_gradient(tf.minimum(step, largest) - step)
        return tf.cast(learned_rounding(flat, step, -highest, highest, flat.shape[0]), kernel.dtype)

    def set_initial_steps(self) -> None:
        """Set learned steps to 2 mean(|w|) / sqrt(highest), the paper's, and at most max(|w|) / highest."""
        magnitudes = np.abs(ops.convert_to_numpy(self._by_channel()))
        magnitudes = magnitudes.reshape(-1, magnitudes.shape[-1])
        highest = 2 ** (self.bits - 1) - 1
        steps = np.minimum(2 * magnitudes.mean(0) / highest**0.5, magnitudes.max(0) / highest)
        self.steps.set(np.maximum(steps, 1e-12))

    def freeze(self) -> None:
        """Keep learned steps as they are, also in training."""
        if self.learned and not self.frozen:
            self.steps.freeze()
        self.frozen = True

    # Keras' own layers save and load their kernel and bias by name, and leave out other weights.
    def save_own_variables(self, store):
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def without_rounding(self, inputs):
        """Return what the layer gives with the kernel as it is."""
        return super().call(inputs)

    def get_config(self):
        return {**super().get_config(), "bits": self.bits, "learned": self.learned, "frozen": self.frozen}


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

    def _by_channel(self):
        return tf.reshape(self.kernel, (*self.kernel_size, -1))

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
