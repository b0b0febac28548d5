"""A discrete variational autoencoder whose codes BEiT predicts (Ramesh et al., arXiv 2102.12092, section 2.1)."""

from __future__ import annotations

import keras
from keras import ops

from keras_vit.layers import GELU, PatchEmbedding
from keras_vit.models.builder import preprocess
from keras_vit.models.image_facts import HALF, Statistics
from keras_vit.training.self_supervised.patches import to_patches

_RELAXATION = "relaxed_codes"


def image_tokenizer(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    *,
    patch_size: int | tuple[int, int] = 16,
    vocabulary: int = 8192,
    width: int = 256,
    depth: int = 2,
    include_preprocessing: bool = False,
    statistics: Statistics = HALF,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "tokenizer",
) -> keras.Model:
    """Build a convolutional network that gives each patch of an image a score for every code.

    The code of a patch is the one with the highest score. The method "tokenizer" of `pretrain` trains it.

    Args:
        input_shape: (height, width, channels) of an image.
        patch_size: Side of a patch in pixels, or (height, width).
        vocabulary: The number of codes.
        width: The number of channels of the map of patches.
        depth: The number of residual blocks of two 3 x 3 convolutions.
        include_preprocessing: Whether the model takes images in [0, 255] and normalizes them itself.
        statistics: The statistics that images are normalized by.
        dtype: Keras dtype policy, such as "mixed_bfloat16", or None for the global one.
        name: The name of the model.

    Returns:
        A model that takes images and returns scores (batch, patches, codes).

    Raises:
        ValueError: If the image size is not a multiple of the patch size.
    """
    images = keras.Input(input_shape, name="image")
    x = preprocess(images, include_preprocessing, statistics)
    embedding = PatchEmbedding(width, patch_size, dtype=dtype, name="patch_embedding")
    grid = embedding.grid(x.shape)
    x = keras.layers.Reshape((*grid, width), dtype=dtype, name="map")(embedding(x))
    x = _residual_blocks(x, depth, "encoder", dtype)
    x = keras.layers.Conv2D(vocabulary, 1, dtype=dtype, name="scores")(x)
    # The scores are float32 whatever the dtype policy, for the softmax and the divergence.
    x = keras.layers.Reshape((grid[0] * grid[1], vocabulary), dtype="float32", name="tokens")(x)
    return keras.Model(images, x, name=name)


def discrete_autoencoder(
    tokenizer: keras.Model, *, kl_weight: float = 0.001, name: str = "discrete_autoencoder"
) -> keras.Model:
    """Build the model that trains a tokenizer (Ramesh et al., arXiv 2102.12092, section 2.1).

    A decoder of the tokenizer's size reconstructs the image from its codes. In training, the choice of the codes is
    relaxed to a softmax of the scores with Gumbel noise (Jang et al., arXiv 1611.01144), whose temperature falls, see
    `TemperatureSchedule`; otherwise, each patch has the code with the highest score. Unlike in the paper, the
    reconstruction is judged by the squared error.

    Args:
        tokenizer: A model that `image_tokenizer` returned.
        kl_weight: The weight of the divergence of the codes' distribution at a patch from the uniform distribution, in
            units of the mean squared error of a pixel.
        name: The name of the model.

    Returns:
        A functional model of two inputs: images, as the tokenizer takes them, and a random number in [0, 1) for each
        image (batch, 1), which determines its noise. The output is the loss of each image, (batch, 1).
    """
    embedding = tokenizer.get_layer("patch_embedding")
    patch, width, dtype = embedding.patch_size, embedding.width, embedding.dtype_policy
    grid = embedding.grid((None, *tokenizer.input_shape[1:]))
    depth = sum(layer.name.startswith("encoder_add_") for layer in tokenizer.layers)

    images = keras.Input(tokenizer.input_shape[1:], name="image")
    noise = keras.Input((1,), dtype="float32", name="noise")
    scores = tokenizer(images)
    x = RelaxedCodes(dtype="float32", name=_RELAXATION)(scores, noise)
    x = keras.layers.Dense(width, use_bias=False, dtype=dtype, name="codebook")(x)
    x = keras.layers.Reshape((*grid, width), dtype=dtype, name="map")(x)
    x = _residual_blocks(x, depth, "decoder", dtype)
    x = keras.layers.Conv2D(patch[0] * patch[1] * images.shape[-1], 1, dtype=dtype, name="pixels")(x)
    normalized = tokenizer.get_layer("preprocessing")(images)
    loss = TokenizerLoss(patch, kl_weight, dtype="float32", name="loss")(x, normalized, scores)
    return keras.Model([images, noise], loss, name=name)


def _residual_blocks(x, depth, name, dtype):
    width = x.shape[-1]
    for index in range(depth):
        branch = GELU(dtype=dtype, name=f"{name}_activation1_{index}")(x)
        branch = keras.layers.Conv2D(width, 3, padding="same", dtype=dtype, name=f"{name}_conv1_{index}")(branch)
        branch = GELU(dtype=dtype, name=f"{name}_activation2_{index}")(branch)
        branch = keras.layers.Conv2D(width, 3, padding="same", dtype=dtype, name=f"{name}_conv2_{index}")(branch)
        x = keras.layers.Add(dtype=dtype, name=f"{name}_add_{index}")([x, branch])
    return GELU(dtype=dtype, name=f"{name}_activation")(x)


@keras.saving.register_keras_serializable("keras_vit")
class RelaxedCodes(keras.layers.Layer):
    """Choose codes by their scores: in training, at random and relaxed to probabilities; otherwise, the highest ones.

    Inputs: scores (batch, patches, codes), and a random number in [0, 1) for each image (batch, 1). Output: (batch,
    patches, codes), which add up to 1 over the codes.
    """

    def build(self, scores_shape, noise_shape):
        self.temperature = self.add_weight(name="temperature", shape=(), initializer="ones", trainable=False)

    def call(self, scores, noise, training=False):
        patches, codes = scores.shape[1:]
        if not training:
            return ops.one_hot(ops.argmax(scores, axis=-1), codes, dtype=scores.dtype)
        uniform = ops.reshape(uniform_numbers(noise, patches * codes), (-1, patches, codes))
        gumbel = -ops.log(-ops.log(uniform))
        return ops.softmax((scores + gumbel) / self.temperature, axis=-1)

    def compute_output_shape(self, scores_shape, noise_shape):
        return tuple(scores_shape)

    def get_config(self):
        return super().get_config()


def uniform_numbers(seeds, count: int):
    """Return numbers in (0, 1) that look random and depend only on a seed, (batch, count).

    Each is a hash of the seed and its own index, by the last step of MurmurHash3. So the numbers of an image do not
    depend on the batch or on the device that it is on.

    Args:
        seeds: Numbers in [0, 1), of shape (batch, 1).
        count: The number of numbers for each seed.
    """

    def mixed(x):
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            x = ops.bitwise_xor(x, ops.right_shift(x, shift)) * ops.convert_to_tensor(factor, "uint32")
        return ops.bitwise_xor(x, ops.right_shift(x, 16))

    starts = mixed(ops.cast(seeds * 2.0**24, "uint32"))
    bits = mixed(starts + ops.cast(ops.arange(count, dtype="int32"), "uint32"))
    # 23 bits, because float32 can hold their centers.
    return (ops.cast(ops.right_shift(bits, 9), "float32") + 0.5) * 2.0**-23


@keras.saving.register_keras_serializable("keras_vit")
class TokenizerLoss(keras.layers.Layer):
    """Compute the loss of a discrete variational autoencoder for each image.

    It is the mean squared error of the pixels, plus the weighted mean over the patches of the Kullback-Leibler
    divergence of the softmax of the scores from the uniform distribution.

    Args:
        patch_size: Height and width of a patch in pixels.
        kl_weight: The weight of the divergence.

    Inputs: reconstructed patches (batch, rows, columns, pixels), images (batch, height, width, channels), and scores
    (batch, patches, codes). Output: (batch, 1).
    """

    def __init__(self, patch_size: tuple[int, int], kl_weight: float, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = tuple(patch_size)
        self.kl_weight = kl_weight

    def call(self, pixels, images, scores):
        targets = to_patches(images, self.patch_size)
        errors = ops.mean(ops.square(ops.reshape(pixels, (-1, *targets.shape[1:])) - targets), axis=(1, 2))
        logs = ops.log_softmax(scores, axis=-1)
        divergence = ops.sum(ops.exp(logs) * logs, axis=-1) + ops.log(float(scores.shape[-1]))
        return ops.expand_dims(errors + self.kl_weight * ops.mean(divergence, axis=1), 1)

    def compute_output_shape(self, pixels_shape, images_shape, scores_shape):
        return (pixels_shape[0], 1)

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size, "kl_weight": self.kl_weight}


class TemperatureSchedule(keras.callbacks.Callback):
    """Lower the temperature of the relaxed codes from epoch to epoch, by the same factor.

    It depends only on the epoch, so training can be resumed.

    Args:
        final_temperature: The temperature in the last epoch; the first has 1. The paper's is 1 / 16 (appendix A.2).
    """

    def __init__(self, final_temperature: float = 1 / 16):
        super().__init__()
        self._final = final_temperature

    def temperature(self, epoch: int, epochs: int) -> float:
        """Return the temperature in an epoch, counted from 0, of all epochs."""
        return self._final ** (epoch / max(1, epochs - 1))

    def on_epoch_begin(self, epoch, logs=None):
        self.model.get_layer(_RELAXATION).temperature.assign(self.temperature(epoch, self.params["epochs"]))
