"""The pixels of patches, which a masked autoencoder predicts."""

from keras import ops

_EPSILON = 1e-6


def to_patches(images, patch_size: tuple[int, int]):
    """Return images (batch, height, width, channels) as the pixels of their patches (batch, patches, pixels).

    The patches are in row-major order, and so are the pixels of a patch: row, column, channel.
    """
    _, height, width, channels = images.shape
    rows, columns = height // patch_size[0], width // patch_size[1]
    cut = ops.reshape(images, (-1, rows, patch_size[0], columns, patch_size[1], channels))
    return ops.reshape(
        ops.transpose(cut, (0, 1, 3, 2, 4, 5)), (-1, rows * columns, patch_size[0] * patch_size[1] * channels)
    )


def to_images(patches, size: tuple[int, int], patch_size: tuple[int, int]):
    """Return the images (batch, height, width, channels) of which `to_patches` returns these patches."""
    rows, columns = size[0] // patch_size[0], size[1] // patch_size[1]
    cut = ops.reshape(patches, (-1, rows, columns, *patch_size, patches.shape[2] // (patch_size[0] * patch_size[1])))
    return ops.reshape(ops.transpose(cut, (0, 1, 3, 2, 4, 5)), (-1, *size, cut.shape[-1]))


def statistics(patches):
    """Return the mean and the standard deviation of each patch, both (batch, patches, 1).

    The variance is the unbiased one, plus 1e-6, as in the code of MAE's authors.
    """
    mean = ops.mean(patches, axis=2, keepdims=True)
    variance = ops.sum(ops.square(patches - mean), axis=2, keepdims=True) / (patches.shape[2] - 1)
    return mean, ops.sqrt(variance + _EPSILON)
