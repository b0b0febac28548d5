"""Shifted patch tokenization (Lee et al., "Vision Transformer for Small-Size Datasets", arXiv 2112.13492, 3.2)."""

import keras
from keras import ops

from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.patch_embedding import PatchEmbedding


@keras.saving.register_keras_serializable("keras_vit")
class ShiftedPatchEmbedding(PatchEmbedding):
    """Project each patch and its surroundings to a token.

    Each patch is concatenated with the same patch of four copies of the image, shifted by half a patch along each
    diagonal and padded with zeros. All values of the five are normalized together and projected.

    The copies are never made: their patches are those of the image after padding by half a patch, and each copy is one
    corner of that grid. So the image is divided into patches only twice, not five times.

    Args:
        width: Width of a token.
        patch_size: Side of a patch in pixels, or (height, width); even, because the shift is half of it.
        epsilon: Added to the variance in the normalization; 1e-5 as in the authors' code.

    Input: (batch, height, width, channels), with a fixed height and width that are multiples of the patch's.
    Output: (batch, height / patch_height * width / patch_width, width), row by row.
    """

    def __init__(self, width: int, patch_size: int | tuple[int, int] = 16, epsilon: float = 1e-5, **kwargs):
        super().__init__(width, patch_size, **kwargs)
        height, width = self.patch_size
        if height % 2 or width % 2:
            raise ValueError(
                "The sides of a patch must be even, since the shift is half a patch; "
                f"received patch_size={height if height == width else self.patch_size}."
            )
        self.epsilon = epsilon
        dtype = self.dtype_policy
        self.rim = keras.layers.ZeroPadding2D((height // 2, width // 2), dtype=dtype, name="rim")
        self.concatenation = keras.layers.Concatenate(dtype=dtype, name="concatenation")
        self.norm = LayerNorm(epsilon, dtype=dtype, name="norm")

    def _projection(self):
        return keras.layers.Dense(self.width, dtype=self.dtype_policy, name="projection")

    def build(self, input_shape):
        rows, columns = self.grid(input_shape)
        height, width = self.patch_size
        patches = (input_shape[0], rows * columns, 5 * height * width * input_shape[3])
        self.norm.build(patches)
        self.projection.build(patches)

    def call(self, images):
        rows, columns = self.grid(images.shape)
        around = self._patches(self.rim(images))
        x = self.concatenation(
            [
                self._patches(images),
                around[:, :-1, :-1],  # Shifted down and to the right: the patch above and to the left,
                around[:, 1:, :-1],  # above and to the right,
                around[:, :-1, 1:],  # below and to the left,
                around[:, 1:, 1:],  # below and to the right.
            ]
        )
        x = self.projection(self.norm(ops.reshape(x, (-1, columns * rows, x.shape[-1]))))
        # The rows come first only now, when there are fewer numbers to move.
        x = ops.transpose(ops.reshape(x, (-1, columns, rows, self.width)), (0, 2, 1, 3))
        return ops.reshape(x, (-1, rows * columns, self.width))

    def _patches(self, images):
        """Split images into patches (batch, columns, rows, values of a patch) with one transpose of rank 4."""
        _, height, width, channels = images.shape
        columns, run = width // self.patch_size[1], self.patch_size[1] * channels
        strips = ops.transpose(ops.reshape(images, (-1, height, columns, run)), (0, 2, 1, 3))
        return ops.reshape(strips, (-1, columns, height // self.patch_size[0], self.patch_size[0] * run))

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
