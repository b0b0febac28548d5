"""Position encoding generators, which see positions by a convolution (Chu et al., arXiv 2102.10882, section 3.2)."""

import keras
from keras import ops

from keras_vit.layers.composite import Composite


@keras.saving.register_keras_serializable("keras_vit")
class PositionGenerator(Composite):
    """Add a 3 x 3 depthwise convolution of a map to the map. Its padding with zeros tells positions apart.

    Input and output: (batch, height, width, channels).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.conv = keras.layers.DepthwiseConv2D(3, padding="same", dtype=dtype, name="conv")
        self.add = keras.layers.Add(dtype=dtype, name="add")

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, maps):
        return self.add([maps, self.conv(maps)])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@keras.saving.register_keras_serializable("keras_vit")
class TokenPositionGenerator(PositionGenerator):
    """Apply a `PositionGenerator` to the patches among tokens; those before them, such as a class token, stay the same.

    Args:
        grid: Rows and columns of patches.

    Input and output: (batch, tokens, width), with rows * columns tokens or more.

    Raises:
        ValueError: There are fewer tokens than patches.
    """

    def __init__(self, grid: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        rows, columns = grid
        self.grid = (rows, columns)
        self.concatenate = keras.layers.Concatenate(axis=1, dtype=self.dtype_policy, name="concatenate")

    def build(self, input_shape):
        rows, columns = self.grid
        if input_shape[1] is None or input_shape[1] < rows * columns:
            raise ValueError(
                f"TokenPositionGenerator of {rows} x {columns} patches expects (batch, tokens, width) with at least "
                f"{rows * columns} tokens; received the shape {tuple(input_shape)}."
            )
        super().build((input_shape[0], rows, columns, input_shape[2]))

    def call(self, tokens):
        rows, columns = self.grid
        _, count, width = tokens.shape
        prefix = count - rows * columns
        patches = tokens[:, prefix:] if prefix else tokens
        maps = super().call(ops.reshape(patches, (-1, rows, columns, width)))
        patches = ops.reshape(maps, (-1, rows * columns, width))
        return self.concatenate([tokens[:, :prefix], patches]) if prefix else patches

    def get_config(self):
        return {**super().get_config(), "grid": self.grid}

    def config_at(self, input_shape: tuple, old_image: tuple[int, int], new_image: tuple[int, int]) -> dict:
        """Return the configuration for another image size, see `keras_vit.resize_model`."""
        grid = [side * new // old for side, old, new in zip(self.grid, old_image, new_image, strict=True)]
        return {**self.get_config(), "grid": grid}
