"""Measure features without training the encoder: nearest neighbors, linear and attentive classifiers.

The protocols are those of DINO (Caron et al., arXiv 2104.14294, section 4.1, with the nearest neighbors of Wu et al.,
arXiv 1805.01978), MAE (He et al., arXiv 2111.06377, appendix A.1) and CAE (Chen et al., arXiv 2202.03026).
"""

from __future__ import annotations

from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from keras_vit.layers import LayerNorm, LearnedTokens, MultiHeadAttention, PatchEmbedding, TokenPooling
from keras_vit.training.data import ImageData
from keras_vit.training.self_supervised.encoder import InferenceModel

Pooling = Literal["token", "avg", "token_and_avg"]


def features(encoder: keras.Model, pooling: Pooling = "token") -> keras.Model:
    """Return the model that gives one feature vector for each image, and shares the encoder's layers.

    Args:
        encoder: A model of the ViT or the BEiT family that returns all tokens, (batch, special tokens + patches,
            width); or a model that already returns vectors, which is returned as it is.
        pooling: "token" for the first token, "avg" for the mean of the patches, both (batch, width); or "token_and_avg"
            for both, (batch, 2 * width).

    Raises:
        ValueError: If there is no such pooling, or the outputs are neither tokens nor vectors.
    """
    if pooling not in ("token", "avg", "token_and_avg"):
        raise ValueError(f"pooling must be 'token', 'avg' or 'token_and_avg'; received {pooling!r}.")
    tokens = encoder.output
    if len(tokens.shape) == 2:
        return encoder
    special = _special_tokens(encoder)
    pooled = []
    if pooling != "avg":
        pooled.append(TokenPooling(name="feature_token")(tokens))
    if pooling != "token":
        patches = keras.layers.Cropping1D((special, 0), name="feature_patches")(tokens) if special else tokens
        pooled.append(keras.layers.GlobalAveragePooling1D(name="feature_mean")(patches))
    joined = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="feature")(pooled)
    return keras.Model(encoder.inputs, joined, name=f"{encoder.name}_features")


def knn_accuracy(
    encoder: keras.Model,
    data: ImageData | tuple[tf.data.Dataset, tf.data.Dataset],
    *,
    neighbors: int = 20,
    temperature: float = 0.07,
    pooling: Pooling = "token",
) -> float:
    """Return the accuracy of a classifier by nearest neighbors, which needs no training.

    Each image takes the class with the largest sum of exp(similarity / temperature) over its nearest training images,
    where the similarity is the cosine between the features.

    Args:
        encoder: A model, see `features`.
        data: Image data, whose validation images are classified by its training images; create it without augmentation.
            Or two datasets of batches (images, one-hot labels), as the encoder takes the images: the known ones, and
            those to classify.
        neighbors: The number of nearest training images. The authors report 20.
        temperature: The temperature of the weights.
        pooling: As in `features`.

    Returns:
        The fraction of the images whose class is right.

    Raises:
        ValueError: If there is no validation data, or fewer training images than neighbors.
    """
    if isinstance(data, ImageData):
        data = data.for_model(encoder)
        if data.validation is None:
            raise ValueError("The data has no validation images to classify.")
        known, unknown = data.train(0, 0), data.validation
    else:
        known, unknown = data
    model = features(encoder, pooling)
    (points, labels), (queries, expected) = (_of_batches(model, batches) for batches in (known, unknown))
    if len(points) < neighbors:
        raise ValueError(f"There are {len(points)} training images, but neighbors={neighbors}.")
    return float(np.mean(nearest_classes(points, labels, queries, neighbors, temperature) == expected.argmax(axis=1)))


def nearest_classes(
    points: np.ndarray, labels: np.ndarray, queries: np.ndarray, neighbors: int, temperature: float
) -> np.ndarray:
    """Return the class of each query (queries,) by the weighted votes of its nearest points.

    Args:
        points: Features of shape (points, features).
        labels: Their one-hot labels, (points, classes).
        queries: Features of shape (queries, features).
        neighbors: The number of nearest points that vote.
        temperature: The temperature of the weights.
    """
    points, queries = (
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (points, queries)
    )
    found = []
    for start in range(0, len(queries), 1024):
        similarities = queries[start : start + 1024] @ points.T
        nearest = np.argpartition(-similarities, neighbors - 1, axis=1)[:, :neighbors]
        chosen = np.take_along_axis(similarities, nearest, axis=1)
        # The largest is subtracted, so that the exponentials do not overflow.
        weights = np.exp((chosen - chosen.max(axis=1, keepdims=True)) / temperature)
        found.append((weights[..., None] * labels[nearest]).sum(axis=1).argmax(axis=1))
    return np.concatenate(found)


def linear_classifier(encoder: keras.Model, classes: int, pooling: Pooling = "token") -> keras.Model:
    """Return a linear classifier of the features of a frozen encoder, to be trained with `fit`.

    Batch normalization without learned parameters precedes the linear layer, as in MAE's code. The authors train with
    LARS::

        model = training.linear_classifier(encoder, classes=1000)
        training.fit(
            model, data, run_dir="runs/linear", epochs=90, warmup_epochs=10, optimizer="lars", learning_rate=0.1,
            learning_rate_batch=256, weight_decay=0.0, clip_norm=None, label_smoothing=0.0,
        )

    Args:
        encoder: A model, see `features`. It is frozen.
        classes: The number of classes.
        pooling: As in `features`.

    Returns:
        A model of logits (batch, classes).
    """
    encoder.trainable = False
    feature_model = features(encoder, pooling)
    images = keras.Input(encoder.input_shape[1:], name="image")
    x = InferenceModel(feature_model.input, feature_model.output, name="features")(images)
    x = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-6, momentum=0.9, dtype="float32", name="feature_norm"
    )(x)
    initializer = keras.initializers.TruncatedNormal(stddev=0.01)
    x = keras.layers.Dense(classes, kernel_initializer=initializer, dtype="float32", name="head")(x)
    return keras.Model(images, x, name=f"{encoder.name}_linear")


def attentive_classifier(encoder: keras.Model, classes: int, num_heads: int | None = None) -> keras.Model:
    """Return an attentive classifier of the features of a frozen encoder, to be trained with `fit`.

    Masked image modeling leaves what shows the class in some of the patches, and the mean over all of them dilutes it.
    So a learned query attends to the patches, and a linear layer classifies the result (attentive probing; Chen et al.,
    CAE, arXiv 2202.03026; also El-Nouby et al., AIM, arXiv 2401.08541). A LayerNorm normalizes the patches; there is no
    MLP and no batch normalization.

        model = training.attentive_classifier(encoder, classes=1000)
        training.fit(model, data, run_dir="runs/attentive", epochs=90, warmup_epochs=10, learning_rate=1e-3)

    Args:
        encoder: A model of the ViT or the BEiT family that returns all tokens. It is frozen.
        classes: The number of classes.
        num_heads: The number of attention heads, a divisor of the width of the tokens. By default, one for 64 numbers.

    Returns:
        A model of logits (batch, classes).

    Raises:
        ValueError: If the encoder does not return all tokens, or `num_heads` does not divide their width.
    """
    special, width = _special_tokens(encoder), encoder.output.shape[-1]
    encoder.trainable = False
    images = keras.Input(encoder.input_shape[1:], name="image")
    x = InferenceModel(encoder.input, encoder.output, name="tokens")(images)
    if special:
        x = keras.layers.Cropping1D((special, 0), name="patches")(x)
    x = LayerNorm(1e-6, dtype="float32", name="patch_norm")(x)
    query = LearnedTokens(1, width, "glorot_uniform", dtype="float32", name="query")(x)
    heads = num_heads or max(1, width // 64)
    x = MultiHeadAttention(width, heads, dtype="float32", name="attention")(query, x)
    x = TokenPooling(dtype="float32", name="pooling")(x)
    initializer = keras.initializers.TruncatedNormal(stddev=0.01)
    x = keras.layers.Dense(classes, kernel_initializer=initializer, dtype="float32", name="head")(x)
    return keras.Model(images, x, name=f"{encoder.name}_attentive")


def _special_tokens(encoder):
    """Return the number of tokens before the patches."""
    tokens = encoder.output
    embedding = next((layer for layer in encoder.layers if isinstance(layer, PatchEmbedding)), None)
    if len(tokens.shape) != 3 or embedding is None:
        raise ValueError(
            f"{encoder.name} must return tokens of the ViT or the BEiT family; its output has the shape {tokens.shape}."
        )
    rows, columns = embedding.grid(encoder.input_shape)
    return tokens.shape[1] - rows * columns


def _of_batches(model, batches):
    found = [(model.predict_on_batch(images), np.asarray(labels)) for images, labels in batches]
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))
