"""Patch embedding by convolutions (El-Nouby et al., arXiv 2106.09681, appendix A, after LeViT, arXiv 2104.01136)."""

import keras

from keras_vit.layers.composite import SequentialComposite
from keras_vit.layers.conv_norm import ConvNorm
from keras_vit.layers.patch_embedding import PatchEmbedding


@keras.saving.register_keras_serializable("keras_vit")
class ConvPatchEmbedding(PatchEmbedding):
    """Project the patches of an image to tokens by 3 x 3 convolutions with strides of 2, which also see neighbors.

    Takes the arguments of `PatchEmbedding`. `patch_size` must be one number, a power of two from 2.

    Input: (batch, height, width, channels), where height and width are fixed multiples of the patch's.
    Output: (batch, height / patch_size * width / patch_size, width), row by row.

    Raises:
        ValueError: `patch_size` or `width` has another value.
    """

    def _projection(self):
        side, other = self.patch_size
        if side != other or side < 2 or side & (side - 1):
            raise ValueError(
                "Patches that are embedded by convolutions have a side of 2, 4, 8, 16, ... pixels; "
                f"received patch_size={self.patch_size}."
            )
        return HalvingConvs(self.width, side.bit_length() - 1, dtype=self.dtype_policy, name="projection")


@keras.saving.register_keras_serializable("keras_vit")
class HalvingConvs(SequentialComposite):
    """Apply 3 x 3 convolutions with batch normalization that halve the map and double its channels, with GELUs between.

    Args:
        channels: Channels of the output. Each convolution before the last gives half as many as the next.
        depth: Number of convolutions.

    Input: (batch, height, width, channels). Output: (batch, height / 2 ** depth, width / 2 ** depth, channels).

    Raises:
        ValueError: `channels` cannot be halved so often.
    """

    def __init__(self, channels: int, depth: int, **kwargs):
        super().__init__(**kwargs)
        if channels % 2 ** (depth - 1):
            raise ValueError(
                f"The width must be a multiple of {2 ** (depth - 1)} for {depth} convolutions, each with half as many "
                f"channels as the next; received {channels}."
            )
        self.settings = {"channels": channels, "depth": depth}
        self.set_sequence(
            {
                f"conv_{index}": ConvNorm(
                    channels // 2 ** (depth - 1 - index),
                    3,
                    strides=2,
                    activation="gelu" if index < depth - 1 else None,
                    dtype=self.dtype_policy,
                    name=f"conv_{index}",
                )
                for index in range(depth)
            }
        )

    def get_config(self):
        return {**super().get_config(), **self.settings}
