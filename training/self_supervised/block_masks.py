"""Block-wise masking (BEiT; Bao et al., arXiv 2106.08254, algorithm 1)."""

from __future__ import annotations

import tensorflow as tf

# So many that the hidden patches are complete long before the last one.
BLOCKS = 32
NUMBERS = 4 * BLOCKS  # The random numbers that an image needs.


def hidden_patches(
    numbers: tf.Tensor, grid: tuple[int, int], count: int, smallest: int = 16, aspect: float = 0.3
) -> tf.Tensor:
    """Draw blocks of patches until a given number of patches is hidden.

    The area of a block is drawn from between `smallest` and the number of patches that are still to be hidden, and its
    aspect ratio, height / width, from between `aspect` and 1 / `aspect`. As in the authors' code, the logarithm of the
    ratio is uniform, and a block as high or as wide as the whole image is left out. All images have the same number of
    hidden patches: of a block with more patches than are still to be hidden, the first ones are hidden, row by row.
    The authors instead leave out such a block, and end with fewer patches if ten in a row do not fit.

    Args:
        numbers: Random numbers in [0, 1), of shape (images, `NUMBERS`). They determine the result.
        grid: Rows and columns of patches in an image.
        count: The number of patches to hide.
        smallest: The smallest area of a block in patches, as long as as many are still to be hidden.
        aspect: The smallest aspect ratio.

    Returns:
        The places of the hidden patches in ascending order, (images, count), int32.
    """
    rows, columns = grid
    row, column = (
        tf.cast(tf.reshape(index, (1, -1)), tf.float32)
        for index in tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij")
    )

    def with_block(is_hidden, drawn):
        missing = count - tf.reduce_sum(tf.cast(is_hidden, tf.int32), axis=1, keepdims=True)
        area, ratio, top, left = tf.split(drawn, 4, axis=1)
        area = smallest + (tf.cast(missing, tf.float32) - smallest) * area
        ratio = aspect ** (1 - 2 * ratio)
        height, width = tf.round(tf.sqrt(area * ratio)), tf.round(tf.sqrt(area / ratio))
        top, left = tf.floor(top * (rows - height + 1)), tf.floor(left * (columns - width + 1))
        in_block = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
        new = in_block & ~is_hidden & (height < rows) & (width < columns)
        return is_hidden | (new & (tf.cumsum(tf.cast(new, tf.int32), axis=1) <= missing))

    drawn = tf.transpose(tf.reshape(numbers, (-1, BLOCKS, 4)), (1, 0, 2))
    is_hidden = tf.foldl(with_block, drawn, tf.zeros((tf.shape(numbers)[0], rows * columns), tf.bool))
    # Of equal values, those with the lower index come first.
    places = tf.math.top_k(tf.cast(is_hidden, tf.int32), count).indices
    return tf.ensure_shape(tf.sort(places, axis=1), (None, count))
