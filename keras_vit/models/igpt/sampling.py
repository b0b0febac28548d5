"""Complete images with an iGPT, pixel by pixel."""

import weakref

import keras
import numpy as np
from keras import ops

from keras_vit.layers import ClassToken, PositionEmbedding
from keras_vit.models.igpt.causal_attention import CausalBlock
from keras_vit.models.igpt.colors import color_layer, layers_of_tokens
from keras_vit.models.igpt.next_color import check_predicts_colors
from keras_vit.utils.normalization import scale_and_offset

_SAMPLED = -1  # In place of the color of a pixel that is to be sampled.
# The compiled loop of each model that has completed images.
_SAMPLERS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def complete_images(
    model: keras.Model, images: np.ndarray, rows: int, *, temperature: float = 1.0, seed: int = 0
) -> np.ndarray:
    """Keep the first rows of images, and sample the colors of all other pixels one after the other.

    Each pixel is drawn from the model's prediction, given all pixels before it (Chen et al., 2020, figure 1). The keys
    and values of those are kept, so that an image costs about as much as a single pass of the model over it.

    Args:
        model: An iGPT that predicts colors: `include_top=False, predict_colors=True`.
        images: (batch, height, width, channels), as the model takes them.
        rows: The number of rows to keep. With 0, the whole images are sampled.
        temperature: Divides the logits of the colors. Below 1, likely colors become more likely; with 0, each pixel
            gets the most likely one.
        seed: Seed of the random numbers. The numbers of an image depend on its place in the batch.

    Returns:
        The images (batch, height, width, channels), float32, as the model takes them. All pixels have one of the
        model's colors, the kept ones too.

    Raises:
        ValueError: The model does not predict colors, the images do not fit it, or `rows` or `temperature` is out of
            range.
    """
    layer = color_layer(model)
    layers = layers_of_tokens(model)
    check_predicts_colors(model)
    images = np.asarray(images, "float32")
    if images.shape[1:] != tuple(model.input_shape[1:]):
        raise ValueError(f"{model.name!r} takes images (batch, *{model.input_shape[1:]}); received {images.shape}.")
    height, width, channels = images.shape[1:]
    if not 0 <= rows <= height:
        raise ValueError(f"rows must be from 0 to the images' height, {height}; received {rows}.")
    if temperature < 0:
        raise ValueError(f"temperature must be 0 or more; received {temperature}.")
    found = keras.Model(model.input, layer.output)(images)
    colors = np.argmax(ops.convert_to_numpy(found), axis=-1).astype("int32")
    colors[:, rows * width :] = _SAMPLED
    # The largest of logits / temperature + Gumbel noise is a sample of the softmax.
    noise = temperature * np.random.default_rng(seed).gumbel(size=(*colors.shape, layer.num_colors))
    sampler = _SAMPLERS.setdefault(model, _Sampler(layers, layer.num_colors))
    sampled = sampler.predict_on_batch([colors, noise.astype("float32")])
    centers = ops.convert_to_numpy(layer.centers).astype("float32")
    preprocessing = model.get_layer("preprocessing")
    if preprocessing.normalize:
        scale, offset = scale_and_offset(preprocessing.mean, preprocessing.std, channels)
        centers = (centers - np.asarray(offset, "float32")) / np.asarray(scale, "float32")
    return centers[np.asarray(sampled)].reshape(-1, height, width, channels)


class _Sampler(keras.Model):
    """Sample the colors of pixels, one after the other.

    It is a model so that Keras compiles it on every backend.

    Args:
        layers: The layers of an iGPT that follow the colors.
        num_colors: Number of colors.
    """

    def __init__(self, layers, num_colors):
        super().__init__(name="sampler", dtype="float32")
        self._num_colors = num_colors
        self._embedding, self._norm, self._head = layers[0], layers[-2], layers[-1]
        (self._start,) = (layer for layer in layers if isinstance(layer, ClassToken))
        (self._positions,) = (layer for layer in layers if isinstance(layer, PositionEmbedding))
        self._blocks = [layer for layer in layers if isinstance(layer, CausalBlock)]

    def build(self, input_shape):
        pass  # All layers are built.

    def call(self, inputs):
        colors, noise = inputs
        batch, pixels = ops.shape(colors)[0], colors.shape[1]
        width, dtype = self._start.token.shape[-1], self._embedding.compute_dtype
        table = ops.cast(self._positions.table, dtype)

        def one_pixel(position, colors, token, *cache):
            x = token + ops.take(table, ops.reshape(position, (1,)), axis=1)
            keys_and_values = []
            for index, block in enumerate(self._blocks):
                x, keys, values = block.step(x, cache[2 * index], cache[2 * index + 1], position)
                keys_and_values += [keys, values]
            logits = ops.cast(self._head(self._norm(x))[:, 0], "float32")
            drawn = ops.argmax(logits + ops.take(noise, position, axis=1), axis=-1)
            given = ops.take(colors, position, axis=1)
            color = ops.where(given == _SAMPLED, ops.cast(drawn, colors.dtype), given)
            colors = ops.slice_update(colors, (0, position), color[:, None])
            token = self._embedding(ops.one_hot(color[:, None], self._num_colors, dtype=dtype))
            return (position + 1, colors, token, *keys_and_values)

        start = ops.broadcast_to(ops.cast(self._start.token, dtype), (batch, 1, width))
        cache = [ops.zeros((batch, pixels, width), dtype) for _ in range(2 * len(self._blocks))]
        state = (ops.convert_to_tensor(0, "int32"), colors, start, *cache)
        return ops.while_loop(lambda position, *_: position < pixels, one_pixel, state)[1]
