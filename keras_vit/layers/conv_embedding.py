"""Embedding of an image or a map by a normalized convolution, at the beginning of a stage of a pyramid.

Without overlap as in PVT (Wang et al., arXiv 2102.12122, section 3.2), or with overlap as in CvT (Wu et al., arXiv
2103.15808, section 3.1) and PVT v2 (Wang et al., arXiv 2106.13797, section 3.2).
"""

import keras

from keras_vit.layers.composite import Composite, SequentialComposite
from keras_vit.layers.layer_norm import LayerNorm
from keras_vit.layers.patch_embedding import PatchEmbedding


@keras.saving.register_keras_serializable("keras_vit")
class ConvEmbedding(SequentialComposite):
    """Apply a convolution with strides and normalize each pixel of its output.

    Args:
        channels: Channels of the output.
        kernel_size: Side of the kernel.
        strides: Strides of the convolution.
        padding: Rows and columns of zeros on every side of the input.
        epsilon: Added to the variance in the normalization.

    Input: (batch, height, width, input channels).
    Output: (batch, (height + 2 * padding - kernel_size) // strides + 1, the same of the width, channels).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        strides: int,
        padding: int = 0,
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "channels": channels,
            "kernel_size": kernel_size,
            "strides": strides,
            "padding": padding,
            "epsilon": epsilon,
        }
        dtype = self.dtype_policy
        parts = {}
        if padding:
            parts["pad"] = keras.layers.ZeroPadding2D(padding, dtype=dtype, name="pad")
        parts["projection"] = keras.layers.Conv2D(channels, kernel_size, strides, dtype=dtype, name="projection")
        parts["norm"] = LayerNorm(epsilon, dtype=dtype, name="norm")
        self.set_sequence(parts)

    def build(self, input_shape):
        kernel_size, padding = self.settings["kernel_size"], self.settings["padding"]
        if min(input_shape[1:3]) + 2 * padding < kernel_size:
            raise ValueError(
                f"A map of {input_shape[1]} x {input_shape[2]} pixels is too small for a kernel of {kernel_size} x "
                f"{kernel_size} with a padding of {padding}."
            )
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("keras_vit")
class ConvTokenEmbedding(PatchEmbedding):
    """Apply a `ConvEmbedding`, whose arguments it takes, and return its pixels as tokens.

    It is the embedding of a stage with a class token. The pixels of its output are the patches of the model.

    Input: (batch, height, width, input channels). Output: (batch, pixels, width), row by row.
    """

    def __init__(self, width: int, kernel_size: int, strides: int, padding: int = 0, epsilon: float = 1e-5, **kwargs):
        self._conv = {"strides": strides, "padding": padding, "epsilon": epsilon}  # `_projection` needs it.
        super().__init__(width, kernel_size, **kwargs)

    def _projection(self):
        return ConvEmbedding(self.width, self.patch_size[0], **self._conv, dtype=self.dtype_policy, name="projection")

    def grid(self, input_shape):
        """Return the rows and columns of pixels in the output for an input of this shape."""
        rows, columns = self.projection.compute_output_shape(input_shape)[1:3]
        return rows, columns

    def get_config(self):
        settings = {"width": self.width, "kernel_size": self.patch_size[0], **self._conv}
        return {**Composite.get_config(self), **settings}
