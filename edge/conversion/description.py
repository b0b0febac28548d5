"""What an exported file says about its model."""

from __future__ import annotations

import dataclasses
import hashlib

import keras
import tensorflow as tf

import keras_vit
from keras_vit.edge.files.description import Description, ImagePreprocessing
from keras_vit.edge.inputs import model_inputs
from keras_vit.edge.quantization.schemes import Scheme
from keras_vit.graph.reading import as_functional
from keras_vit.models.classes import class_names
from keras_vit.models.model_images import own_facts


def describe(model: keras.Model, scheme: Scheme) -> Description:
    """Return what the file of a model says, except for its runtime.

    Args:
        model: The model that is exported.
        scheme: The scheme of the file.
    """
    return Description(
        model=model.name,
        scheme=scheme.to_dict(),
        class_names=class_names(model),
        preprocessing=image_preprocessing(model),
        weights_sha256=weights_hash(model),
        versions={"keras_vit": keras_vit.__version__, "keras": keras.__version__, "tensorflow": tf.__version__},
    )


def with_runtime(description: Description, runtime: str | None) -> bytes:
    """Return the text of a description to store in a file that needs a runtime."""
    return dataclasses.replace(description, min_runtime=runtime).to_json().encode()


def image_preprocessing(model: keras.Model) -> ImagePreprocessing | None:
    """Return how to prepare images for a model; None if it takes no images, or does not know."""
    inputs = model_inputs(as_functional(model))
    own = own_facts(model) if len(inputs) == 1 and len(inputs[0][1]) == 3 else None
    channels = inputs[0][1][-1]
    if own is None or channels is None:
        return None
    facts, normalizes = own
    mean, std = (None, None) if normalizes else (facts.statistics.mean, facts.statistics.std)
    return ImagePreprocessing.of(mean, std, channels, facts.crop_fraction, facts.interpolation)


def weights_hash(model: keras.Model) -> str:
    """Return the SHA-256 hash of a model's weights.

    The exported file has that of the model it was made from. The hash covers the shape, type and values of each weight
    in the order of `model.weights`, and no names, which differ from session to session.

    Args:
        model: A Keras model.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        digest.update(f"{values.dtype}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()
