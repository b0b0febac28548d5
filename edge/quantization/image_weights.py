"""How much each calibration image counts where an error is made as small as possible."""

from keras import ops


def image_weights(values):
    """Return the weight of each image: the inverse of the mean square of its values, which is the signal there.

    The errors of all images then count in proportion to their signals. In networks without normalization between the
    images and the last layers, such as EfficientViT, the activations of a few images can be fifty times as large as
    those of the others. They would decide alone, and the others would be lost in the rounding.

    Args:
        values: A tensor of shape (images, ...).

    Returns:
        A tensor of shape (images,).
    """
    power = ops.mean(ops.square(ops.cast(values, "float32")), axis=tuple(range(1, len(values.shape))))
    # The second term keeps the weight of an image that has almost no signal finite.
    return 1 / (power + 1e-3 * ops.mean(power) + 1e-30)
