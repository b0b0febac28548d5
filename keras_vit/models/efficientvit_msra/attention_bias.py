"""A learned attention bias by distance (Graham et al., arXiv 2104.01136, section 3.4)."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.position_embedding import resize_positions


@keras.saving.register_keras_serializable("keras_vit")
class AttentionBias(keras.layers.Layer):
    """Add a learned bias to each attention score, which depends on the distance in rows and columns of the two pixels.

    A product with a constant matrix selects the bias of each pair of pixels. The converter computes it once, whereas a
    gather would stay in the graph.

    Args:
        window: Rows and columns of the window.

    Input and output: (..., pixels, pixels), row by row.
    """

    def __init__(self, window: tuple[int, int], **kwargs):
        super().__init__(**kwargs)
        rows, columns = window
        self.window = (rows, columns)

    def build(self, input_shape):
        rows, columns = self.window
        pixels = rows * columns
        if tuple(input_shape[-2:]) != (pixels, pixels):
            raise ValueError(
                f"AttentionBias of a window of {rows} x {columns} expects (..., {pixels}, {pixels}); "
                f"received the shape {tuple(input_shape)}."
            )
        self.table = self.add_weight(name="table", shape=(pixels,), initializer="zeros")
        row, column = np.divmod(np.arange(pixels), columns)
        apart = np.abs(row[:, None] - row) * columns + np.abs(column[:, None] - column)
        self._spread = np.eye(pixels, dtype="float32")[:, apart.ravel()]

    def call(self, scores):
        bias = ops.matmul(ops.cast(self.table, scores.dtype), ops.cast(self._spread, scores.dtype))
        return scores + ops.reshape(bias, scores.shape[-2:])

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def weights_from(self, old: "AttentionBias") -> dict[str, np.ndarray]:
        """Return weights for this layer, computed from the same layer with a different window."""
        table = ops.convert_to_numpy(old.table)[None, :, None]
        return {"table": resize_positions(table, old.window, self.window)[0, :, 0]}

    def get_config(self):
        return {**super().get_config(), "window": self.window}
