"""Masked autoencoders: predict the pixels of hidden patches (He et al., arXiv 2111.06377).

Reference code: facebookresearch/mae, CC BY-NC 4.0 (its weights too).
"""

from __future__ import annotations

import keras
from keras import ops

from keras_vit.layers import LayerNorm, PositionEmbedding, TransformerBlock
from keras_vit.training.self_supervised.encoder import Encoder
from keras_vit.training.self_supervised.masking import FillHidden, VisibleTokens, ranks, visible_count
from keras_vit.training.self_supervised.patches import statistics, to_patches

_PREDICTION = "decoder_prediction"


def masked_autoencoder(
    encoder: keras.Model,
    *,
    mask_ratio: float = 0.75,
    decoder_width: int | None = None,
    decoder_depth: int | None = None,
    decoder_heads: int | None = None,
    normalize_targets: bool = True,
    name: str = "masked_autoencoder",
) -> keras.Model:
    """Build a masked autoencoder around a Vision Transformer (He et al., arXiv 2111.06377, section 3).

    The encoder processes only the visible patches. The decoder, which is small, gets a learned token for each hidden
    patch and predicts its pixels. After training, the encoder is the result; it has the same layers and weights.

    Args:
        encoder: A model of the ViT family that returns all tokens: `include_top=False` and `pooling=None`. The authors'
            encoders have `position_embedding="sincos2d_mae"`.
        mask_ratio: The fraction of the patches that is hidden.
        decoder_width: The width of the decoder's tokens. By default, 512 as in the paper for encoders of width 768 or
            more, and otherwise half of the encoder's width.
        decoder_depth: The number of the decoder's blocks. By default, 8 or 4 for the same two cases.
        decoder_heads: The number of attention heads in the decoder. By default, its width / 32.
        normalize_targets: Whether to predict pixels normalized by the mean and the standard deviation of their patch,
            which gives better features (table 1d).
        name: The name of the model.

    Returns:
        A functional model of two inputs: images, as the encoder takes them, and random numbers (batch, patches) that
        determine which patches are visible. The output is the loss of each image, (batch, 1): the mean squared error
        of the pixels of its hidden patches.

    Raises:
        ValueError: If the encoder does not return all tokens of a Vision Transformer, or a setting is out of range.
    """
    parts = Encoder(encoder)
    patch, grid = parts.patch_embedding.patch_size, parts.positions.grid
    width, patches = parts.patch_embedding.width, grid[0] * grid[1]
    as_paper = width >= 768
    decoder_width = decoder_width or (512 if as_paper else width // 2)
    decoder_depth = decoder_depth or (8 if as_paper else 4)
    decoder_heads = decoder_heads or max(1, decoder_width // 32)
    epsilon, dtype = parts.blocks[-1].epsilon, parts.blocks[-1].dtype_policy

    images = keras.Input(parts.input_shape, name="image")
    noise = keras.Input((patches,), dtype="float32", name="noise")
    normalized, *_, tokens = parts.embed(images)
    special = tokens.shape[1] - patches
    x = VisibleTokens(visible_count(patches, mask_ratio), name="visible_tokens")(tokens, noise)
    for layer in parts.blocks:
        x = layer(x)
    x = keras.layers.Dense(decoder_width, dtype=dtype, name="decoder_embedding")(x)
    x = FillHidden(special, dtype=dtype, name="mask_token")(x, noise)
    x = PositionEmbedding(grid, "sincos2d_mae", dtype=dtype, name="decoder_position_embedding")(x)
    for index in range(decoder_depth):
        settings = {"epsilon": epsilon, "dtype": dtype, "name": f"decoder_block_{index}"}
        x = TransformerBlock(decoder_width, decoder_heads, 4 * decoder_width, **settings)(x)
    x = LayerNorm(epsilon, dtype=dtype, name="decoder_norm")(x)
    if special:
        x = keras.layers.Cropping1D((special, 0), dtype=dtype, name="decoder_patches")(x)
    x = keras.layers.Dense(patch[0] * patch[1] * images.shape[-1], dtype=dtype, name=_PREDICTION)(x)
    loss = HiddenPatchLoss(patch, mask_ratio, normalize_targets, dtype="float32", name="loss")(x, normalized, noise)
    return keras.Model([images, noise], loss, name=name)


def predictions_of(model: keras.Model) -> keras.Model:
    """Return the model that gives the predicted patches (batch, patches, pixels) of a masked autoencoder."""
    return keras.Model(model.inputs, model.get_layer(_PREDICTION).output)


@keras.saving.register_keras_serializable("keras_vit")
class HiddenPatchLoss(keras.layers.Layer):
    """Compute the mean squared error of the predicted pixels of hidden patches, for each image.

    Args:
        patch_size: Height and width of a patch in pixels.
        mask_ratio: The fraction of the patches that is hidden.
        normalize_targets: Whether the targets are normalized by the mean and the standard deviation of their patch.

    Inputs: predictions (batch, patches, pixels), images (batch, height, width, channels), and random numbers (batch,
    patches). Output: (batch, 1).
    """

    def __init__(self, patch_size: tuple[int, int], mask_ratio: float, normalize_targets: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = tuple(patch_size)
        self.mask_ratio = mask_ratio
        self.normalize_targets = normalize_targets

    def call(self, predictions, images, noise):
        targets = self.targets(images)
        errors = ops.mean(ops.square(predictions - targets), axis=2)
        hidden = self.hidden(noise)
        return ops.sum(errors * hidden, axis=1, keepdims=True) / ops.sum(hidden, axis=1, keepdims=True)

    def targets(self, images):
        """Return the pixels to predict, (batch, patches, pixels)."""
        patches = to_patches(images, self.patch_size)
        if not self.normalize_targets:
            return patches
        mean, deviation = statistics(patches)
        return (patches - mean) / deviation

    def hidden(self, noise):
        """Return 1 for each hidden patch and 0 for each visible one, (batch, patches)."""
        return ops.cast(ranks(noise) >= visible_count(noise.shape[1], self.mask_ratio), self.compute_dtype)

    def compute_output_shape(self, predictions_shape, images_shape, noise_shape):
        return (predictions_shape[0], 1)

    def get_config(self):
        return {
            **super().get_config(),
            "patch_size": self.patch_size,
            "mask_ratio": self.mask_ratio,
            "normalize_targets": self.normalize_targets,
        }
