"""Feature maps to tokens and back, patch by patch, as MobileViT does (arXiv 2110.02178, figure 1b)."""

import keras
from keras import ops

PATCH_AREA = 4  # Patches are 2 x 2 in every published MobileViT.


@keras.saving.register_keras_serializable("keras_vit")
class Unfold(keras.layers.Layer):
    """Return the pixels of a map as tokens, one patch of 2 x 2 pixels after the other.

    Two transposes of rank 4 do this without moving the batch. The first puts all even rows before the odd ones, the
    second joins the two halves of each patch.

    Input: (batch, height, width, channels) with even height and width. Output: (batch, height * width, channels).
    """

    def call(self, maps):
        _, height, width, channels = maps.shape
        rows = ops.reshape(maps, (-1, height // 2, 2, width * channels))
        rows = ops.transpose(rows, (0, 2, 1, 3))
        patches = ops.reshape(rows, (-1, 2, height * width // 4, 2 * channels))
        patches = ops.transpose(patches, (0, 2, 1, 3))
        return ops.reshape(patches, (-1, height * width, channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height * width, channels)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class Fold(keras.layers.Layer):
    """Return the tokens of `Unfold` as a map.

    Args:
        height: Height of the map, even.
        width: Width of the map, even.

    Input: (batch, height * width, channels). Output: (batch, height, width, channels).
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def call(self, tokens):
        channels = tokens.shape[-1]
        patches = ops.reshape(tokens, (-1, self.height * self.width // 4, 2, 2 * channels))
        patches = ops.transpose(patches, (0, 2, 1, 3))
        rows = ops.reshape(patches, (-1, 2, self.height // 2, self.width * channels))
        rows = ops.transpose(rows, (0, 2, 1, 3))
        return ops.reshape(rows, (-1, self.height, self.width, channels))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}
