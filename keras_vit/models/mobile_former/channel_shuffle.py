"""Channel shuffle (Zhang et al., arXiv 1707.01083, section 3.1)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite


@keras.saving.register_keras_serializable("keras_vit")
class ChannelShuffle(Composite):
    """Reorder channels between grouped convolutions: (groups, n) become (n, groups).

    Args:
        groups: Number of groups, a divisor of the channels.

    Input and output: (batch, rows, columns, channels), with a fixed height and width.
    """

    def __init__(self, groups: int, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups

    def build(self, input_shape):
        if input_shape[-1] % self.groups:
            raise ValueError(
                f"groups must divide the channels; received groups={self.groups} for {input_shape[-1]} channels."
            )

    def call(self, features):
        if self.groups == 1:
            return features
        _, height, width, channels = features.shape
        groups = ops.reshape(features, (-1, height * width, self.groups, channels // self.groups))
        return ops.reshape(ops.transpose(groups, (0, 1, 3, 2)), (-1, height, width, channels))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}
