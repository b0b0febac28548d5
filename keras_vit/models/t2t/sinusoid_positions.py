"""Fixed positions from sines and cosines (Vaswani et al., arXiv 1706.03762, section 3.5), as in T2T-ViT."""

import keras
import numpy as np

from keras_vit.layers.position_embedding import PositionEmbedding


def sinusoid_positions(count: int, width: int) -> np.ndarray:
    """Return a sine at each even and a cosine at each odd column, by the position in the sequence.

    Args:
        count: Number of positions.
        width: Width of a token.

    Returns:
        An array (1, count, width) in float32.
    """
    columns = np.arange(width)
    angles = np.arange(count)[:, None] / 10000 ** (2 * (columns // 2) / width)
    return np.where(columns % 2, np.cos(angles), np.sin(angles))[None].astype("float32")


@keras.saving.register_keras_serializable("keras_vit")
class SinusoidPositions(PositionEmbedding):
    """Add a fixed vector for its position in the sequence to each token.

    The table is not trained, but saved and loaded like a weight. That of another grid is resized by bicubic
    interpolation, as the authors do, instead of computed again.

    Args:
        grid: Rows and columns of patches. Further tokens, such as a class token, come first in the sequence.

    Input and output: (batch, tokens, width) with a fixed number of tokens, rows * columns or more.
    """

    def __init__(self, grid: tuple[int, int], **kwargs):
        super().__init__(grid, resizing="cubic", **kwargs)

    def _initial_table(self, tokens, width):
        return sinusoid_positions(tokens, width)

    def get_config(self):
        config = super().get_config()
        for name in ("kind", "resizing"):
            del config[name]
        return config
