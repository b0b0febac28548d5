"""The embedding at the beginning of a stage of PVT (Wang et al., arXiv 2102.12122, section 3.2)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.position_embedding import PositionEmbedding

POSITION_RESIZING = "half_pixel_linear"  # As in the authors' code.


@keras.saving.register_keras_serializable("keras_vit")
class PVTEmbedding(Composite):
    """Divide a map into patches, project each to a pixel, normalize it, and add a learned vector for its position.

    Args:
        channels: Channels of the output.
        patch_size: Side of a patch.
        size: (height, width) of the input, from which the number of positions follows.
        epsilon: Added to the variance in the normalization.
        dropout_rate: Dropout rate of the output.

    Input: (batch, height, width, input channels).
    Output: (batch, height // patch_size, width // patch_size, channels).
    """

    def __init__(
        self,
        channels: int,
        patch_size: int,
        size: tuple[int, int],
        epsilon: float = 1e-5,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        height, width = size
        self.settings = {
            "channels": channels,
            "patch_size": patch_size,
            "size": (height, width),
            "epsilon": epsilon,
            "dropout_rate": dropout_rate,
        }
        self.grid = (height // patch_size, width // patch_size)
        dtype = self.dtype_policy
        self.projection = keras.layers.Conv2D(channels, patch_size, patch_size, dtype=dtype, name="projection")
        self.norm = LayerNorm(epsilon, dtype=dtype, name="norm")
        self.position = PositionEmbedding(self.grid, resizing=POSITION_RESIZING, dtype=dtype, name="position")
        self.dropout = keras.layers.Dropout(dropout_rate, dtype=dtype, name="dropout")

    def build(self, input_shape):
        self.projection.build(input_shape)
        rows, columns = self.grid
        channels = self.settings["channels"]
        self.norm.build((input_shape[0], rows, columns, channels))
        self.position.build((input_shape[0], rows * columns, channels))

    def call(self, inputs):
        rows, columns = self.grid
        channels = self.settings["channels"]
        tokens = ops.reshape(self.norm(self.projection(inputs)), (-1, rows * columns, channels))
        return ops.reshape(self.dropout(self.position(tokens)), (-1, rows, columns, channels))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.grid, self.settings["channels"])

    def get_config(self):
        return {**super().get_config(), **self.settings}
