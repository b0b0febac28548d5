"""The continuous relative position bias of Swin Transformer V2 (Liu et al., arXiv 2111.09883, section 3.3)."""

import keras
import numpy as np
from keras import ops

from keras_vit.layers.window_bias import BiasFromTable

_HIDDEN = 512  # Units between the two dense layers, in the authors' code.


@keras.saving.register_keras_serializable("keras_vit")
class ContinuousPositionBias(BiasFromTable):
    """Add a bias that an MLP computes from the relative position of the two pixels, and the mask of a shifted map.

    The bias of a head is in (0, 16). The MLP takes the differences in rows and columns, on a logarithmic scale and
    relative to the largest ones in the window of the original training. So it can be used with larger windows.

    Args:
        num_heads: Number of heads.
        windows: The attributes of `Windows`, as a dictionary.
        pretrained_window: (height, width) of the window that the MLP was trained with.

    Input and output: (batch, heads * windows, pixels of a window, pixels of a window).
    """

    def __init__(self, num_heads: int, windows: dict, pretrained_window: tuple[int, int], **kwargs):
        super().__init__(num_heads, windows, **kwargs)
        self.pretrained_window = tuple(pretrained_window)

    def build(self, input_shape):
        super().build(input_shape)

        def kernel(name, shape):
            return self.add_weight(name=name, shape=shape, initializer=keras.initializers.TruncatedNormal(stddev=0.02))

        self.hidden_kernel = kernel("hidden_kernel", (2, _HIDDEN))
        self.hidden_bias = self.add_weight(name="hidden_bias", shape=(_HIDDEN,), initializer="zeros")
        self.output_kernel = kernel("output_kernel", (_HIDDEN, self.num_heads))

    def table_of_heads(self):
        hidden = ops.relu(ops.matmul(self._coordinates(), self.hidden_kernel) + self.hidden_bias)
        return 16 * ops.sigmoid(ops.matmul(hidden, self.output_kernel))

    def _coordinates(self):
        axes = []
        for side, before in zip(self.windows.window, self.pretrained_window, strict=True):
            apart = 8 * np.arange(1 - side, side) / max(before - 1, 1)
            axes.append(np.sign(apart) * np.log2(np.abs(apart) + 1) / np.log2(8))
        rows, columns = np.meshgrid(*axes, indexing="ij")
        coordinates = np.stack([rows.ravel(), columns.ravel()], axis=1)
        return ops.convert_to_tensor(coordinates.astype("float32"), self.hidden_kernel.dtype)

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates of the MLP."""
        height, width = self.windows.window
        return (2 * height - 1) * (2 * width - 1) * _HIDDEN * (2 + self.num_heads)

    def get_config(self):
        return {**super().get_config(), "pretrained_window": self.pretrained_window}
