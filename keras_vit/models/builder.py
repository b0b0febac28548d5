"""What every family's builder does in the same way: its input, its head, and its weights."""

import os
import warnings

import keras

from keras_vit.layers import Preprocessing
from keras_vit.models.image_facts import ImageFacts, Statistics
from keras_vit.weights.load import load_weights

_PREPROCESSING = "preprocessing"  # Name of the layer with a model's image facts.


def image_input(
    input_shape: tuple[int, int, int] | None,
    default_size: tuple[int, int],
    input_tensor=None,
    dtype: str | None = None,
) -> keras.KerasTensor:
    """Return the tensor that a model starts from: the caller's, or a new input of (height, width, channels)."""
    shape = (*default_size, 3) if input_shape is None else tuple(input_shape)
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(
            "input_shape is (height, width, channels) with three positive integers, such as (224, 224, 3); "
            f"received {shape}."
        )
    if keras.config.image_data_format() == "channels_first" or (shape[0] in (1, 3) and shape[2] > 4):
        raise ValueError(
            "keras_vit's models take channels-last images (height, width, channels), the layout that devices use; "
            f"received the shape {shape} with image_data_format "
            f"{keras.config.image_data_format()!r}. Use keras.config.set_image_data_format('channels_last') and give "
            "input_shape with the channels last."
        )
    if input_tensor is not None:
        return input_tensor
    return keras.Input(shape, dtype=dtype, name="image")


def preprocess(images, include_preprocessing: bool | Statistics, statistics: Statistics):
    """Return what the first layer takes, and record in the graph how the model takes its images.

    Args:
        images: (batch, height, width, channels).
        include_preprocessing: Whether the model normalizes images in [0, 255] itself, or by which statistics.
        statistics: Those of the family.
    """
    if isinstance(include_preprocessing, Statistics):
        statistics = include_preprocessing
    normalize = bool(include_preprocessing)
    if normalize:
        statistics.scale_and_offset(images.shape[-1])  # Raises if they are of another number of channels.
    return Preprocessing(statistics.mean, statistics.std, normalize=normalize, name=_PREPROCESSING)(images)


def set_image_facts(model: keras.Model, facts: ImageFacts) -> keras.Model:
    """Record in a model how its published form takes images, and return it.

    A model that normalizes its images keeps the statistics by which it does.
    """
    layer = model.get_layer(_PREPROCESSING)
    if not layer.normalize:
        layer.mean, layer.std = facts.statistics.mean, facts.statistics.std
    layer.crop_fraction, layer.interpolation, layer.source = facts.crop_fraction, facts.interpolation, facts.source
    return model


def logits(features, classes: int, dtype=None, name: str = "head", initializer: str = "glorot_uniform"):
    """Return logits (batch, classes) of a feature vector (batch, features)."""
    return keras.layers.Dense(classes, kernel_initializer=initializer, dtype=dtype, name=name)(features)


def predictions(scores, activation: str | None):
    """Apply the activation of the class scores, as the model's last layer; none for None."""
    if activation in (None, "linear"):
        return scores
    # Probabilities in float32, whatever the dtype policy: a loss computed from float16 ones underflows.
    return keras.layers.Activation(activation, dtype="float32", name="predictions")(scores)


def classifier(features, classes: int, activation: str | None, dtype=None, initializer: str = "glorot_uniform"):
    """Return class scores (batch, classes) of a feature vector (batch, features)."""
    return predictions(logits(features, classes, dtype, initializer=initializer), activation)


def finish(images, input_tensor, outputs, name: str, weights: str | os.PathLike | None) -> keras.Model:
    """Return the model from `images`, or from the inputs of the caller's tensor, to its outputs, with its weights."""
    inputs = images if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    return with_weights(keras.Model(inputs, outputs, name=name), weights)


def with_weights(model: keras.Model, weights: str | os.PathLike | None) -> keras.Model:
    """Load the weights of a file, if one is given, and return the model; a head that the file lacks stays as it is."""
    if weights is not None:
        if not os.path.exists(weights):
            raise ValueError(
                f"weights={weights!r} is not a file. Give None for random weights, or the path of a .safetensors, .npz "
                "or .weights.h5 file."
            )
        report = load_weights(model, weights, head="auto")
        if report.left_as_it_was:
            warnings.warn(
                f"{os.fspath(weights)!r} has no weights for these parts of {model.name!r}, which keep their initial "
                f"values: {', '.join(report.left_as_it_was)}.",
                stacklevel=2,
            )
    return model
