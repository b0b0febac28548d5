"""The layers of an encoder that is trained without labels."""

from __future__ import annotations

import re
from collections.abc import Iterator

import keras

from keras_vit.layers import PatchEmbedding, PositionEmbedding

_NAMES = re.compile(
    r"preprocessing|patch_embedding|position_embedding|class_token|distillation_token|register_tokens|dropout|block_\d+"
    "|norm"
)


@keras.saving.register_keras_serializable("keras_vit")
class InferenceModel(keras.Model):
    """A functional model that computes in inference mode even while a model around it is trained.

    Calling a model with `training=False` is not enough: the training mode of the model around it takes precedence.
    """

    def call(self, inputs, mask=None):
        return super().call(inputs, training=False, mask=mask)


class Encoder:
    """The layers of a model of the ViT family that returns all tokens, each of which takes the output of the former.

    Attributes:
        embedding: The layers that turn images into tokens.
        blocks: The transformer blocks and the last norm.
        patch_embedding: The layer in `embedding` that cuts images into patches.
        positions: The layer in `embedding` that adds positions.
        input_shape: The shape of an image, (height, width, channels).

    Args:
        model: The model.

    Raises:
        ValueError: If the model is not of this form.
    """

    def __init__(self, model: keras.Model):
        layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
        names = [layer.name for layer in layers]
        first = next((index for index, name in enumerate(names) if name.startswith("block_")), None)
        patch_embedding = next((layer for layer in layers if isinstance(layer, PatchEmbedding)), None)
        positions = next((layer for layer in layers if isinstance(layer, PositionEmbedding)), None)
        if (
            first is None
            or patch_embedding is None
            or positions is None
            or names[-1] != "norm"
            or len(model.operations) != len(model.layers)
            or not all(map(_NAMES.fullmatch, names))
        ):
            raise ValueError(
                "The encoder must be a model of the ViT family that returns all tokens, such as "
                f"keras_vit.ViT_S16(include_top=False); received {model.name}, whose last layer is {names[-1]!r}."
            )
        self.patch_embedding, self.positions = patch_embedding, positions
        self.embedding, self.blocks = layers[:first], layers[first:]
        self.input_shape = tuple(model.input_shape[1:])

    def embed(self, images) -> Iterator:
        """Yield the outputs of the layers of the embedding, the normalized images first.

        Args:
            images: (batch, height, width, channels). If they have another size than those of the encoder, the table of
                positions is resized.
        """
        x = images
        grid = self.patch_embedding.grid(images.shape)
        for layer in self.embedding:
            x = layer(x, grid=grid) if layer is self.positions and grid != layer.grid else layer(x)
            yield x

    def __call__(self, images):
        """Return the tokens of images of any size that the patches divide."""
        *_, x = self.embed(images)
        for layer in self.blocks:
            x = layer(x)
        return x
