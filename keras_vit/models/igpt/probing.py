"""The features of iGPT that a linear classifier takes."""

import keras

from keras_vit.models.igpt.causal_attention import CausalBlock
from keras_vit.models.igpt.colors import layers_of_tokens


def probe_model(model: keras.Model, block: int | None = None) -> keras.Model:
    """Return the model of the features between two blocks of an iGPT. It shares all weights.

    The features of a block are the mean of what its attention takes: the tokens after its first norm (Chen et al.,
    2020, section 3.2). The best ones are in the middle of the network, unlike in models that are trained with labels.

    Args:
        model: An iGPT.
        block: The index of the block, from 0. By default, the one in the middle.

    Returns:
        A functional model with the input of `model` and the output (batch, width).

    Raises:
        ValueError: The model is not an iGPT, or has no such block.
    """
    layers = layers_of_tokens(model)
    blocks = [layer for layer in layers if isinstance(layer, CausalBlock)]
    block = len(blocks) // 2 if block is None else block
    if not 0 <= block < len(blocks):
        raise ValueError(f"block must be from 0 to {len(blocks) - 1}; received {block}.")
    tokens = blocks[block].norm1(blocks[block].input)
    pooled = keras.layers.GlobalAveragePooling1D(dtype=blocks[block].dtype_policy, name="pooling")(tokens)
    return keras.Model(model.input, pooled, name=f"{model.name}_block_{block}")
