"""Dynamic ReLU (Chen et al., arXiv 2003.10027), driven by a token (arXiv 2108.05895, section 3)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.hard_sigmoid import HardSigmoid
from keras_vit.layers.linear import linear
from keras_vit.layers.scale import Shift


@keras.saving.register_keras_serializable("keras_vit")
class DynamicReLU(Composite):
    """max(a * x, b * x), where a token gives each channel of each image its two slopes.

    The slopes are a = 2 h_1 in [0, 2] and b = 2 h_2 - 1 in [-1, 1] with h = hard_sigmoid(dense(relu(dense(token)))).
    Before training they are near 1 and 0, a plain ReLU. There are no intercepts.

    Args:
        channels: Channels of the features.
        dim: Width of the token; a quarter of it is between the two dense layers.

    Inputs: features (batch, height, width, channels) and a token (batch, dim). Output: as the features.
    """

    def __init__(self, channels: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.dim = dim
        dtype = self.dtype_policy
        self.reduce = linear(dim // 4, dtype, "reduce")
        self.relu = keras.layers.Activation("relu", dtype=dtype, name="relu")
        self.expand = linear(2 * channels, dtype, "expand")
        self.slopes = HardSigmoid(2.0, dtype=dtype, name="slopes")
        self.shift = Shift(-1.0, dtype=dtype, name="shift")
        self.multiply1 = keras.layers.Multiply(dtype=dtype, name="multiply1")
        self.multiply2 = keras.layers.Multiply(dtype=dtype, name="multiply2")
        self.maximum = keras.layers.Maximum(dtype=dtype, name="maximum")

    def build(self, features_shape, token_shape):
        self.reduce.build(token_shape)
        self.expand.build((token_shape[0], self.dim // 4))

    def call(self, features, token):
        slopes = self.slopes(self.expand(self.relu(self.reduce(token))))
        slopes = ops.reshape(slopes, (-1, 1, 1, 2 * self.channels))
        first, second = slopes[..., : self.channels], self.shift(slopes[..., self.channels :])
        return self.maximum([self.multiply1([features, first]), self.multiply2([features, second])])

    def compute_output_shape(self, features_shape, token_shape):
        return tuple(features_shape)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "dim": self.dim}
