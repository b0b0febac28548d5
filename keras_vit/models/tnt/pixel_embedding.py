"""The embedding of the pixels of each patch (Han et al., arXiv 2103.00112, section 2.2)."""

import math

import keras
import numpy as np
from keras import ops

from keras_vit.layers.composite import Composite
from keras_vit.layers.patch_embedding import PatchEmbedding

_KERNEL = 7  # Side of the convolution's kernel in all published models; it pads each patch by 3.


@keras.saving.register_keras_serializable("keras_vit")
class PixelConvolution(keras.layers.Layer):
    """Apply a 7 x 7 convolution with strides to each patch by itself, and add a learned vector for each of its pixels.

    The convolution pads every patch with zeros, so no pixel sees another patch. It is computed as a single convolution
    over whole patches, whose kernel has a copy of the 7 x 7 kernel for each pixel.

    Args:
        pixel_width: Width of a pixel.
        patch_size: Side of a patch in pixels of the image.
        strides: Strides of the convolution. A patch has ceil(patch_size / strides) pixels on each side.

    Input: (batch, height, width, channels), with multiples of `patch_size`.
    Output: (batch, height / patch_size, width / patch_size, pixels * pixel_width), the pixels of a patch row by row.
    """

    def __init__(self, pixel_width: int, patch_size: int = 16, strides: int = 4, **kwargs):
        super().__init__(**kwargs)
        self.pixel_width = pixel_width
        self.patch_size = patch_size
        self.strides = strides
        self.side = -(-patch_size // strides)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(_KERNEL, _KERNEL, input_shape[-1], self.pixel_width),
            initializer="glorot_uniform",
        )
        self.bias = self.add_weight(name="bias", shape=(self.pixel_width,), initializer="zeros")
        self.positions = self.add_weight(
            name="positions",
            shape=(self.side**2, self.pixel_width),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, images):
        kernel, bias = self._over_patches()
        return ops.conv(images, kernel, strides=self.patch_size, padding="valid") + bias

    def _over_patches(self):
        """Return the kernel and the bias of the convolution over whole patches."""
        patch = self.patch_size
        padded = ops.pad(self.kernel, ((patch, patch), (patch, patch), (0, 0), (0, 0)))
        # The kernel of a pixel begins at its first row and column of the image, less the padding.
        first = [patch + _KERNEL // 2 - self.strides * pixel for pixel in range(self.side)]
        kernels = [padded[row : row + patch, column : column + patch] for row in first for column in first]
        outputs = self.side**2 * self.pixel_width
        kernel = ops.reshape(ops.stack(kernels, axis=3), (patch, patch, -1, outputs))
        return kernel, ops.reshape(self.positions + self.bias, (outputs,))

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        outputs = self.side**2 * self.pixel_width
        return (batch, height // self.patch_size, width // self.patch_size, outputs)

    def macs(self, input_shape: tuple) -> int:
        """Return the number of multiply-accumulates for one image, see `keras_vit.count_macs`."""
        return math.prod(self.compute_output_shape(input_shape)[1:]) * _KERNEL**2 * input_shape[-1]

    def inference_form(self) -> tuple[type[keras.layers.Layer], dict, dict[str, np.ndarray]]:
        """Return the convolution over whole patches, see `keras_vit.fuse`."""
        kernel, bias = (ops.convert_to_numpy(array) for array in self._over_patches())
        config = keras.layers.Conv2D(kernel.shape[-1], self.patch_size, self.patch_size).get_config()
        del config["name"]
        return keras.layers.Conv2D, config, {"kernel": kernel, "bias": bias}

    def get_config(self):
        return {
            **super().get_config(),
            "pixel_width": self.pixel_width,
            "patch_size": self.patch_size,
            "strides": self.strides,
        }


@keras.saving.register_keras_serializable("keras_vit")
class PixelEmbedding(PatchEmbedding):
    """Divide an image into patches, and embed the pixels of each patch by a `PixelConvolution`.

    Args:
        pixel_width: Width of a pixel.
        patch_size: Side of a patch in pixels of the image.
        strides: Strides of the convolution.

    Input: (batch, height, width, channels), where height and width are fixed multiples of the patch's.
    Output: (batch, patches, pixels * pixel_width), row by row.
    """

    def __init__(self, pixel_width: int, patch_size: int = 16, strides: int = 4, **kwargs):
        self._pixels = {"pixel_width": pixel_width, "patch_size": patch_size, "strides": strides}
        super().__init__(pixel_width * (-(-patch_size // strides)) ** 2, patch_size, **kwargs)

    def _projection(self):
        return PixelConvolution(**self._pixels, dtype=self.dtype_policy, name="projection")

    def get_config(self):
        return {**Composite.get_config(self), **self._pixels}
