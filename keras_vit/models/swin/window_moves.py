"""Layers that move the pixels of a map: cyclic shifts and patches (Liu et al., arXiv 2103.14030, section 3)."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_vit")
class CyclicShift(keras.layers.Layer):
    """Shift a map cyclically, so that what leaves it on one side enters it on the other.

    It computes slices and concatenations, which every device has.

    Args:
        shift: Rows and columns by which pixels move down and to the right; negative numbers move them up and left.

    Input and output: (batch, height, width, channels).
    """

    moves_pixels = True  # See `keras_vit.fuse`.

    def __init__(self, shift: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        self.shift = tuple(shift)

    def call(self, maps):
        height, width = maps.shape[1:3]
        if rows := self.shift[0] % height:
            maps = ops.concatenate([maps[:, height - rows :], maps[:, : height - rows]], axis=1)
        if columns := self.shift[1] % width:
            maps = ops.concatenate([maps[:, :, width - columns :], maps[:, :, : width - columns]], axis=2)
        return maps

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "shift": self.shift}


@keras.saving.register_keras_serializable("keras_vit")
class JoinPatches(keras.layers.Layer):
    """Join each 2 x 2 pixels to one with four times the channels: upper left, lower left, upper right, lower right.

    Two transposes of rank 4 do this without moving the batch. The first puts all even rows before the odd ones, the
    second joins the two pixels of each column.

    Input: (batch, height, width, channels) with even height and width.
    Output: (batch, height / 2, width / 2, 4 * channels).
    """

    moves_pixels = True

    def call(self, maps):
        _, height, width, channels = maps.shape
        rows = ops.transpose(ops.reshape(maps, (-1, height // 2, 2, width * channels)), (0, 2, 1, 3))
        pairs = ops.transpose(ops.reshape(rows, (-1, 2, height // 2 * width, channels)), (0, 2, 1, 3))
        return ops.reshape(pairs, (-1, height // 2, width // 2, 4 * channels))

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height // 2, width // 2, 4 * channels)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()
