"""Layers that hide patches at random and fill the gaps (He et al., arXiv 2111.06377, section 3).

The random numbers are an input: the patches with the smallest ones are visible. All shapes are fixed, so XLA and TPUs
can compile the model, and a mask depends only on the data, not on the number of devices or on interruptions.
"""

import keras
from keras import ops


def visible_count(patches: int, mask_ratio: float) -> int:
    """Return the number of visible patches, as in the authors' code.

    Raises:
        ValueError: If no patch or every patch would be visible.
    """
    count = int(patches * (1 - mask_ratio))
    if not 0 < count < patches:
        raise ValueError(
            f"mask_ratio must leave at least one patch visible and one hidden; received mask_ratio={mask_ratio} for "
            f"{patches} patches."
        )
    return count


def ranks(noise):
    """Return the rank of each number within its row: 0 for the smallest. `noise` has the shape (batch, patches)."""
    return ops.argsort(ops.argsort(noise, axis=1), axis=1)


def taken(tokens, places):
    """Return the tokens at some places, (batch, places, width).

    Args:
        tokens: (batch, tokens, width).
        places: Their indices, (batch, places).
    """
    count, width = tokens.shape[1:]
    # Whole rows of one matrix: `ops.take_along_axis` would need an index for each number.
    starts = ops.expand_dims(count * ops.arange(ops.shape(tokens)[0], dtype="int32"), 1)
    return ops.take(ops.reshape(tokens, (-1, width)), ops.cast(places, "int32") + starts, axis=0)


@keras.saving.register_keras_serializable("keras_vit")
class VisibleTokens(keras.layers.Layer):
    """Keep the special tokens and the visible patches.

    Args:
        count: The number of visible patches.

    Inputs: tokens (batch, special tokens + patches, width), and random numbers (batch, patches).
    Output: (batch, special tokens + count, width), with the patches in the order of their random numbers.
    """

    def __init__(self, count: int, **kwargs):
        super().__init__(autocast=False, **kwargs)  # The random numbers must keep their precision.
        self.count = count

    def call(self, tokens, noise):
        special = tokens.shape[1] - noise.shape[1]
        places = ops.argsort(noise, axis=1)[:, : self.count]
        visible = taken(tokens[:, special:], places)
        return ops.concatenate([tokens[:, :special], visible], axis=1) if special else visible

    def compute_output_shape(self, tokens_shape, noise_shape):
        return (tokens_shape[0], tokens_shape[1] - noise_shape[1] + self.count, tokens_shape[2])

    def get_config(self):
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable("keras_vit")
class FillHidden(keras.layers.Layer):
    """Put the visible patches back in their places, and a learned token in the places of the hidden ones.

    Inputs: tokens (batch, special tokens + visible patches, width), and random numbers (batch, patches), those of
    `VisibleTokens`; the number of special tokens is `special`.
    Output: (batch, special tokens + patches, width).

    Args:
        special: The number of special tokens before the patches.
    """

    def __init__(self, special: int, **kwargs):
        super().__init__(autocast=False, **kwargs)  # The random numbers must keep their precision.
        self.special = special

    def build(self, tokens_shape, noise_shape):
        self.token = self.add_weight(
            name="token", shape=(1, 1, tokens_shape[2]), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )

    def call(self, tokens, noise):
        hidden = noise.shape[1] - (tokens.shape[1] - self.special)
        shape = (ops.shape(tokens)[0], hidden, tokens.shape[2])
        filled = ops.concatenate(
            [tokens[:, self.special :], ops.broadcast_to(ops.cast(self.token, tokens.dtype), shape)], axis=1
        )
        patches = taken(filled, ranks(noise))
        return ops.concatenate([tokens[:, : self.special], patches], axis=1) if self.special else patches

    def compute_output_shape(self, tokens_shape, noise_shape):
        return (tokens_shape[0], self.special + noise_shape[1], tokens_shape[2])

    def get_config(self):
        return {**super().get_config(), "special": self.special}
