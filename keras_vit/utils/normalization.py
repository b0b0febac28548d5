"""The arithmetic of normalizing images. Imports no Keras."""


def scale_and_offset(
    mean: float | tuple[float, ...], std: float | tuple[float, ...], channels: int
) -> tuple[list[float], list[float]]:
    """Return the factors and terms that normalize an image in [0, 255] as `scale * image + offset`.

    Args:
        mean: Mean of images in [0, 1]: one number for all channels, or one for each.
        std: Their standard deviation, likewise.
        channels: Number of channels of the images.

    Returns:
        (scale, offset), each with one number for each channel.

    Raises:
        ValueError: The statistics are for a different number of channels.
    """
    means, stds = (value if isinstance(value, tuple) else (value,) * channels for value in (mean, std))
    if len(means) != channels:
        raise ValueError(
            f"The model was trained with statistics of {len(means)} channels; received images with {channels} channels."
        )
    return [1 / (255 * s) for s in stds], [-m / s for m, s in zip(means, stds, strict=True)]
