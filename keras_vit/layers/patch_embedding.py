"""Patch embedding (Dosovitskiy et al., arXiv 2010.11929, section 3.1, equation 1)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.utils.plain import plain


def pair(value: int | tuple[int, int], what: str) -> tuple[int, int]:
    """Return a size that is given as one number or as (height, width) as (height, width).

    Raises:
        ValueError: It is neither.
    """
    value = plain(value)
    sizes = (value, value) if isinstance(value, int) else tuple(value)
    if len(sizes) != 2 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"{what} must be a positive integer or a pair (height, width) of them; received {value!r}.")
    return sizes


@keras.saving.register_keras_serializable("keras_vit")
class PatchEmbedding(Composite):
    """Divide an image into patches that do not overlap, and project each one to a token.

    Args:
        width: Width of a token.
        patch_size: Side of a patch in pixels, or (height, width) in pixels.

    Input: (batch, height, width, channels), where height and width are fixed multiples of the patch's.
    Output: (batch, height / patch_height * width / patch_width, width), row by row.
    """

    def __init__(self, width: int, patch_size: int | tuple[int, int] = 16, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.patch_size = pair(patch_size, "patch_size")
        self.projection = self._projection()

    def _projection(self) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            self.width, self.patch_size, strides=self.patch_size, dtype=self.dtype_policy, name="projection"
        )

    def grid(self, input_shape: tuple) -> tuple[int, int]:
        """Return the rows and columns of patches in an image batch of this shape.

        Raises:
            ValueError: The shape is not fixed, or not a multiple of the patch.
        """
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                f"{type(self).__name__} expects images (batch, height, width, channels) of a fixed size; "
                f"received the shape {tuple(input_shape)}."
            )
        size = tuple(input_shape[1:3])
        if any(side % patch for side, patch in zip(size, self.patch_size, strict=True)):
            fits = tuple(max(1, side // patch) * patch for side, patch in zip(size, self.patch_size, strict=True))
            raise ValueError(
                f"An image of {size[0]} x {size[1]} cannot be divided into patches of "
                f"{self.patch_size[0]} x {self.patch_size[1]}; {fits[0]} x {fits[1]} would do."
            )
        return size[0] // self.patch_size[0], size[1] // self.patch_size[1]

    def build(self, input_shape):
        self.grid(input_shape)
        self.projection.build(input_shape)

    def call(self, images):
        rows, columns = self.grid(images.shape)
        return ops.reshape(self.projection(images), (-1, rows * columns, self.width))

    def compute_output_shape(self, input_shape):
        rows, columns = self.grid(input_shape)
        return (input_shape[0], rows * columns, self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "patch_size": self.patch_size}
