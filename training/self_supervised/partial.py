"""Fine-tune only the last blocks of a model (He et al., arXiv 2111.06377, section 4.3)."""

import math

import keras

from keras_vit.layers import TransformerBlock

_FIRST_HALF = ("norm1", "attention", "layer_scale1")


def train_last_blocks(model: keras.Model, blocks: float) -> keras.Model:
    """Freeze a model except for its last transformer blocks and what follows them, such as the last norm and the head.

    `fit` then trains only these (partial fine-tuning; He et al., arXiv 2111.06377, figure 9):

        model = keras_vit.ViT_B16(classes=10, weights="runs/mae/encoder.keras")
        training.train_last_blocks(model, 4)

    Args:
        model: A model of a family with transformer blocks, such as ViT or BEiT.
        blocks: The number of blocks to train. Half a block, such as in 0.5 or 2.5, is the MLP with its norm; 0 trains
            only what follows the blocks.

    Returns:
        The model itself.

    Raises:
        ValueError: If the model has fewer blocks, or the number is not a multiple of one half.
    """
    layers = model.layers
    places = [place for place, layer in enumerate(layers) if isinstance(layer, TransformerBlock)]
    if not places or not 0 <= blocks <= len(places) or 2 * blocks % 1:
        raise ValueError(
            f"{model.name} has {len(places)} transformer blocks, so blocks must be a multiple of 0.5 from 0 to "
            f"{len(places)}; received {blocks}."
        )
    thaw(model)
    first = places[-math.ceil(blocks)] if blocks else places[-1] + 1
    for layer in layers[:first]:
        layer.trainable = False
    if blocks % 1:
        for name, part in layers[first].parts().items():
            if name in _FIRST_HALF:
                part.trainable = False
    return model


def thaw(model: keras.Model) -> None:
    """Make all layers of a model trainable, and all parts of these layers."""
    model.trainable = True
    for layer in model.layers:
        # Keras leaves the parts as they are unless the value for the layer itself changes.
        layer.trainable = False
        layer.trainable = True
