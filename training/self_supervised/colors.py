"""Find the colors of iGPT by k-means (Chen et al., "Generative Pretraining from Pixels", ICML 2020, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from keras_vit.training.data import ImageData
from keras_vit.utils.missing import needs


def color_centers(images: Sequence[np.ndarray], num_colors: int = 512, seed: int = 0) -> np.ndarray:
    """Return the centers of the clusters of the images' pixels, for `keras_vit.set_colors`.

    Args:
        images: Images (height, width, channels), or batches of them, normalized as the model takes them.
        num_colors: The number of clusters.
        seed: The seed of k-means.

    Returns:
        An array (num_colors, channels), float32.

    Raises:
        ImportError: If scikit-learn is missing.
        ValueError: If there are fewer pixels than clusters.
    """
    with needs("scikit-learn", "k-means", "train"):
        from sklearn.cluster import MiniBatchKMeans

    pixels = np.concatenate([np.reshape(batch, (-1, np.shape(batch)[-1])) for batch in images]).astype("float32")
    if len(pixels) < num_colors:
        raise ValueError(f"There are {len(pixels)} pixels, fewer than num_colors={num_colors}.")
    # Tiny steps keep the centers apart where images have fewer colors than that.
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=pixels.shape)
    clusters = MiniBatchKMeans(num_colors, batch_size=4096, n_init=1, random_state=seed).fit(pixels + noise)
    return clusters.cluster_centers_.astype("float32")


def some_images(data: ImageData, count: int) -> Iterator[np.ndarray]:
    """Yield batches of the first training images, until there are at least `count`, or no more in the first epoch."""
    for images, *_ in data.train(0, 0):
        yield np.asarray(images)
        count -= len(images)
        if count <= 0:
            return
