"""The colors of iGPT: each pixel is replaced by the nearest of 512 colors (Chen et al., 2020, section 3.1)."""

import json
import os

import keras
import numpy as np
from keras import ops

_LAYER = "colors"  # The name of the layer in a model.
_SHARP = 2.0**30


@keras.saving.register_keras_serializable("keras_vit")
class NearestColor(keras.layers.Layer):
    """Find the nearest of a set of colors for each pixel, by Euclidean distance.

    The result is a vector for each pixel with 1 at the place of its color, rather than the color's number. So the layer
    consists of operations that mobile delegates run, and the next layer can be a dense one in place of a look-up. If
    several colors are exactly equally near, they share the 1.

    The distances need the precision of float32. The layer cannot compute in integers.

    Args:
        num_colors: Number of colors.

    Input: images (batch, height, width, channels), normalized to [-1, 1]. Output: (batch, height * width, num_colors),
    the pixels in row-major order.
    """

    def __init__(self, num_colors: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.num_colors = num_colors

    def build(self, input_shape):
        self.centers = self.add_weight(
            name="centers",
            shape=(self.num_colors, input_shape[-1]),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(_spread(*shape), dtype),
            trainable=False,
        )

    def call(self, images):
        _, height, width, channels = images.shape
        dtype = keras.backend.result_type(images.dtype, "float32")
        pixels = ops.reshape(ops.cast(images, dtype), (-1, height * width, channels))
        centers = ops.cast(self.centers, dtype)
        # The nearest center c of a pixel x is that with the largest 2 <x, c> - <c, c>. It is not computed as a product
        # of matrices, which many devices round.
        scores = -ops.sum(centers * centers, axis=1)
        for channel in range(channels):
            scores = scores + pixels[..., channel : channel + 1] * (2 * centers[:, channel])
        distances = ops.max(scores, axis=-1, keepdims=True) - scores
        nearest = ops.relu(1 - distances * _SHARP)
        return ops.cast(nearest / ops.sum(nearest, axis=-1, keepdims=True), self.compute_dtype)

    def integer_call(self, images):
        """Refuse to be computed in integers."""
        raise NotImplementedError("The nearest color needs the precision of float32.")

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, height * width, self.num_colors)

    def get_config(self):
        return {**super().get_config(), "num_colors": self.num_colors}


def _spread(count, channels):
    """Return colors (count, channels) that fill the cube from -1 to 1 evenly, by a sequence of low discrepancy."""
    ratio = 2.0  # The root of x ** (channels + 1) = x + 1, which is the golden ratio for one channel.
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (channels + 1))
    steps = ratio ** -np.arange(1, channels + 1)
    return (2 * ((0.5 + np.arange(1, count + 1)[:, None] * steps) % 1) - 1).astype("float32")


def set_colors(model: keras.Model, colors: np.ndarray | str | os.PathLike) -> None:
    """Set the colors of an iGPT, which its published weights do not contain.

    Args:
        model: An iGPT.
        colors: An array (colors, channels), normalized to [-1, 1] as the authors' are; or the path of a file with one:
            the authors' kmeans_centers.npy, or transformers' preprocessor_config.json, whose entry "clusters" is read.

    Raises:
        ValueError: The model is not an iGPT, or has another number of colors or channels; or the file has no colors.
    """
    layer = color_layer(model)
    if isinstance(colors, (str, os.PathLike)):
        colors = _read_colors(os.fspath(colors))
    colors = np.asarray(colors, "float32")
    if colors.shape != tuple(layer.centers.shape):
        raise ValueError(
            f"{model.name!r} has {layer.num_colors} colors of {layer.centers.shape[1]} channels; received colors of "
            f"the shape {colors.shape}. Build the model with num_colors={len(colors) if colors.ndim else 512}."
        )
    layer.centers.assign(colors)


def _read_colors(path):
    try:
        if path.lower().endswith(".json"):
            with open(path, encoding="utf-8") as file:
                return json.load(file)["clusters"]
        return np.load(path, allow_pickle=False)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path!r} has no colors: pass the authors' kmeans_centers.npy, or transformers' preprocessor_config.json "
            f"({error!r})."
        ) from error


def color_layer(model: keras.Model) -> NearestColor:
    """Return the layer of a model that finds the colors of the pixels.

    Raises:
        ValueError: The model is not an iGPT.
    """
    layer = next((layer for layer in model.layers if layer.name == _LAYER), None)
    if not isinstance(layer, NearestColor):
        raise ValueError(f"The model must be an iGPT, such as keras_vit.iGPT_S(); received {model.name!r}.")
    return layer


def layers_of_tokens(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of an iGPT that follow the colors, each of which takes the output of the one before it."""
    return model.layers[model.layers.index(color_layer(model)) + 1 :]


def model_of_colors(model: keras.Model) -> keras.Model:
    """Return the model that takes the colors of the pixels in place of an image. It shares all weights.

    Args:
        model: An iGPT.

    Returns:
        A functional model. Its input is the number of each pixel's color, (batch, height * width), in row-major order;
        its output is that of `model`.

    Raises:
        ValueError: The model is not an iGPT.
    """
    layer = color_layer(model)
    numbers = keras.Input(layer.output.shape[1:2], dtype="int32", name="colors")
    x = ops.one_hot(numbers, layer.num_colors, dtype=layer.compute_dtype)
    for each in layers_of_tokens(model):
        x = each(x)
    return keras.Model(numbers, x, name=f"{model.name}_of_colors")
