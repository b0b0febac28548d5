"""From a feature map to the tokens that MobileViT attends to, and back (arXiv 2110.02178, figure 1b)."""

import keras
from keras import ops

PATCH_AREA = 4  # Patches are 2 x 2 in every published MobileViT.


@keras.saving.register_keras_serializable("keras_vit")
class Unfold(keras.layers.Layer):
    """The pixels of a map, one patch of 2 x 2 after the other.

    Two transposes of rank 4 get there and leave the batch alone. The first puts all even rows before the odd ones,
    the second brings the two halves of each patch together.

    Input: (batch, height, width, dim), even height and width. Output: (batch, height * width, dim).
    """

    def call(self, maps):
        _, height, width, dim = maps.shape
        rows = ops.reshape(maps, (-1, height // 2, 2, width * dim))
        rows = ops.transpose(rows, (0, 2, 1, 3))
        patches = ops.reshape(rows, (-1, 2, height * width // 4, 2 * dim))
        patches = ops.transpose(patches, (0, 2, 1, 3))
        return ops.reshape(patches, (-1, height * width, dim))

    def compute_output_shape(self, input_shape):
        batch, height, width, dim = input_shape
        return (batch, height * width, dim)

    def get_config(self):  # Keras cannot do without it for a layer that was given a dtype policy.
        return super().get_config()


@keras.saving.register_keras_serializable("keras_vit")
class Fold(keras.layers.Layer):
    """What undoes `Unfold`.

    Args:
        height, width: Of the map, both even.

    Input: (batch, height * width, dim). Output: (batch, height, width, dim).
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def call(self, tokens):
        dim = tokens.shape[-1]
        patches = ops.reshape(tokens, (-1, self.height * self.width // 4, 2, 2 * dim))
        patches = ops.transpose(patches, (0, 2, 1, 3))
        rows = ops.reshape(patches, (-1, 2, self.height // 2, self.width * dim))
        rows = ops.transpose(rows, (0, 2, 1, 3))
        return ops.reshape(rows, (-1, self.height, self.width, dim))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}
