"""The MLP of PVT v2, with a convolution (Wang et al., arXiv 2106.13797, section 3.3), and the block that has it."""

import keras

from keras_vit.layers.mlp import MLP
from keras_vit.layers.spatial_reduction import SpatialReductionBlock


@keras.saving.register_keras_serializable("keras_vit")
class DepthwiseMLP(MLP):
    """Apply an `MLP` on a map, with a 3 x 3 depthwise convolution before the activation.

    Args:
        width, mlp_dim, activation, dropout_rate: As in `MLP`.
        relu: Whether there is a ReLU before the convolution, as in the models that attend to averages.

    Input: (batch, height, width, input channels). Output: (batch, height, width, channels).
    """

    def __init__(self, *args, relu: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        dtype = self.dtype_policy
        if relu:
            self.relu = keras.layers.Activation("relu", dtype=dtype, name="relu")
        self.depthwise = keras.layers.DepthwiseConv2D(3, padding="same", dtype=dtype, name="depthwise")

    def build(self, input_shape):
        super().build(input_shape)
        self.depthwise.build((*input_shape[:-1], self.mlp_dim))

    def call(self, inputs):
        hidden = self.expand(inputs)
        if "relu" in self.parts():
            hidden = self.relu(hidden)
        hidden = self.dropout(self.activation(self.depthwise(hidden)))
        return self.output_dropout(self.contract(hidden))

    def get_config(self):
        return {**super().get_config(), "relu": "relu" in self.parts()}


@keras.saving.register_keras_serializable("keras_vit")
class PVTv2Block(SpatialReductionBlock):
    """Compute a `SpatialReductionBlock`, whose arguments it takes, with a `DepthwiseMLP`.

    Input and output: (batch, height, width, channels).
    """

    def _mlp(self):
        settings = {name: self.settings[name] for name in ("width", "mlp_dim", "dropout_rate")}
        relu = self._reduction["pooled_side"] is not None
        return DepthwiseMLP(**settings, relu=relu, dtype=self.dtype_policy, name="mlp")
