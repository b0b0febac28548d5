"""Pooling of maps: convolutions that all heads share, and maxima (Li et al., arXiv 2112.01526, section 3)."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.composite import SequentialComposite

_SIDE = 3  # Of every pooling's kernel.


@keras.saving.register_keras_serializable("keras_vit")
class HeadwiseConv(keras.layers.Layer):
    """Apply the same 3 x 3 depthwise convolution to the channels of each attention head, without padding or a bias.

    `keras_vit.fuse` makes an ordinary depthwise convolution of it.

    Args:
        num_heads: Number of heads, each a run of neighboring channels.
        strides: Strides of the convolution.

    Input: (batch, height, width, channels), where `num_heads` divides the channels.
    Output: (batch, (height - 3) // strides + 1, (width - 3) // strides + 1, channels).
    """

    def __init__(self, num_heads: int, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.strides = strides

    def build(self, input_shape):
        head_width = input_shape[-1] // self.num_heads
        self.kernel = self.add_weight(
            name="kernel",
            shape=(_SIDE, _SIDE, head_width, 1),
            # PyTorch's default for 9 inputs, as in the authors' code.
            initializer=keras.initializers.RandomUniform(-1 / _SIDE, 1 / _SIDE),
        )

    def call(self, maps):
        kernel = ops.cast(ops.tile(self.kernel, (1, 1, self.num_heads, 1)), maps.dtype)
        return ops.depthwise_conv(maps, kernel, strides=self.strides, padding="valid")

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        rows, columns = ((side - _SIDE) // self.strides + 1 for side in (height, width))
        return (batch, rows, columns, channels)

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates for one image, see `keras_vit.count_macs`."""
        return int(np.prod(self.compute_output_shape(input_shape)[1:])) * _SIDE**2

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "strides": self.strides}

    def inference_form(self) -> tuple[type[keras.layers.Layer], dict, dict[str, np.ndarray]]:
        """Return the depthwise convolution with a kernel for every channel, see `keras_vit.fuse`."""
        config = keras.layers.DepthwiseConv2D(_SIDE, strides=self.strides, use_bias=False).get_config()
        kernel = np.tile(ops.convert_to_numpy(self.kernel), (1, 1, self.num_heads, 1))
        return keras.layers.DepthwiseConv2D, {**config, "name": self.name}, {"kernel": kernel}


@keras.saving.register_keras_serializable("keras_vit")
class EdgePadding(keras.layers.Layer):
    """Repeat the first row and column of a map before it, and the last ones of an odd side after it.

    A maximum over 3 x 3 pixels with strides of 2 then is the one over those of them that are in the map.

    Input: (batch, height, width, channels). Output: (batch, height + 1 or 2, width + 1 or 2, channels).
    """

    moves_pixels = True  # See `keras_vit.fuse`.

    def call(self, maps):
        _, height, width, _ = maps.shape
        rows = [maps[:, :1], maps] + [maps[:, height - 1 :]] * (height % 2)
        maps = ops.concatenate(rows, axis=1)
        return ops.concatenate([maps[:, :, :1], maps] + [maps[:, :, width - 1 :]] * (width % 2), axis=2)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height + 1 + height % 2, width + 1 + width % 2, channels)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class HalvingMaxPooling(SequentialComposite):
    """Take the maximum of each 3 x 3 pixels, with strides of 2. Pixels outside the map do not count.

    Input: (batch, height, width, channels). Output: (batch, ceil(height / 2), ceil(width / 2), channels).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.set_sequence(
            {
                "pad": EdgePadding(dtype=dtype, name="pad"),
                "maximum": keras.layers.MaxPooling2D(_SIDE, strides=2, dtype=dtype, name="maximum"),
            }
        )

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()
