"""Dynamic ReLU (Chen et al., arXiv 2003.10027), computed from a token (arXiv 2108.05895, section 3)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.scale import Shift
from keras_vit.models.mobile_former.hard_sigmoid import HardSigmoid
from keras_vit.models.mobile_former.linear import linear


@keras.saving.register_keras_serializable("keras_vit")
class DynamicReLU(Composite):
    """Compute max(a * x, b * x), with two slopes for each channel of each image that are computed from a token.

    The slopes are a = 2 h_1 in [0, 2] and b = 2 h_2 - 1 in [-1, 1] with h = hard_sigmoid(dense(relu(dense(token)))).
    Before training they are near 1 and 0, as in a plain ReLU. There are no intercepts.

    Args:
        channels: Channels of the features.
        width: Width of the token. The first dense layer has a quarter as many units.

    Inputs: features (batch, rows, columns, channels) and a token (batch, width). Output: of the features' shape.
    """

    def __init__(self, channels: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.width = width
        dtype = self.dtype_policy
        self.reduce = linear(width // 4, dtype, "reduce")
        self.relu = keras.layers.Activation("relu", dtype=dtype, name="relu")
        self.expand = linear(2 * channels, dtype, "expand")
        self.slopes = HardSigmoid(2.0, dtype=dtype, name="slopes")
        self.shift = Shift(-1.0, dtype=dtype, name="shift")
        self.multiply1 = keras.layers.Multiply(dtype=dtype, name="multiply1")
        self.multiply2 = keras.layers.Multiply(dtype=dtype, name="multiply2")
        self.maximum = keras.layers.Maximum(dtype=dtype, name="maximum")

    def build(self, features_shape, token_shape):
        self.reduce.build(token_shape)
        self.expand.build((token_shape[0], self.width // 4))

    def call(self, features, token):
        slopes = self.slopes(self.expand(self.relu(self.reduce(token))))
        slopes = ops.reshape(slopes, (-1, 1, 1, 2 * self.channels))
        first, second = slopes[..., : self.channels], self.shift(slopes[..., self.channels :])
        return self.maximum([self.multiply1([features, first]), self.multiply2([features, second])])

    def compute_output_shape(self, features_shape, token_shape):
        return tuple(features_shape)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "width": self.width}
