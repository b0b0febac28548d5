"""What every family's builder does the same way: its input, its head, and its weights."""

import os
import warnings

import keras

from keras_vit.models.images import Statistics, normalize
from keras_vit.weights.load import load_weights


def image_input(
    input_shape: tuple[int, int, int] | None,
    default_size: tuple[int, int],
    input_tensor=None,
    dtype: str | None = None,
) -> keras.KerasTensor:
    """The tensor a model starts from: the caller's, or a new input of (height, width, channels), channels last."""
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
            "keras_vit's models take channels-last images (height, width, channels), the layout that devices run; "
            f"received the shape {shape} with image_data_format "
            f"{keras.config.image_data_format()!r}. Use keras.config.set_image_data_format('channels_last') and give "
            "input_shape with the channels last."
        )
    if input_tensor is not None:
        return input_tensor
    return keras.Input(shape, dtype=dtype, name="image")


def prepared(images, include_preprocessing: bool | Statistics, statistics: Statistics):
    """What the first layer takes: the images, or, with preprocessing, those normalized by given or own statistics."""
    if not include_preprocessing:
        return images
    return normalize(images, statistics if include_preprocessing is True else include_preprocessing)


def logits(features, classes: int, dtype=None, name: str = "head", initializer: str = "glorot_uniform"):
    """Class scores (batch, classes) without an activation, from a feature vector (batch, dim)."""
    if not isinstance(classes, int) or classes < 1:
        raise ValueError(f"classes is a positive integer; received {classes!r}.")
    return keras.layers.Dense(classes, kernel_initializer=initializer, dtype=dtype, name=name)(features)


def predictions(scores, activation: str | None):
    """The activation of class scores, as the model's last layer; none for None."""
    if activation in (None, "linear"):
        return scores
    # Probabilities in float32, whatever the dtype policy: a loss computed from float16 ones underflows.
    return keras.layers.Activation(activation, dtype="float32", name="predictions")(scores)


def classifier(features, classes: int, activation: str | None, dtype=None, initializer: str = "glorot_uniform"):
    """Class scores (batch, classes) from a feature vector (batch, dim)."""
    return predictions(logits(features, classes, dtype, initializer=initializer), activation)


def finished(images, input_tensor, outputs, name: str, weights: str | os.PathLike | None) -> keras.Model:
    """The model from what `image_input` gave, or from the caller's own inputs, to its outputs, with its weights."""
    inputs = images if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    return with_weights(keras.Model(inputs, outputs, name=name), weights)


def with_weights(model: keras.Model, weights: str | os.PathLike | None) -> keras.Model:
    """The model, with the weights of a file if one is given; a head that the file has no weights for stays as it is."""
    if weights is not None:
        if not os.path.exists(weights):
            raise ValueError(
                f"weights={weights!r} is not a file. Give None for random weights, or the path of a .safetensors, .npz "
                "or .weights.h5 file."
            )
        report = load_weights(model, weights, head="auto")
        if report.left_as_it_was:
            warnings.warn(
                f"{os.fspath(weights)!r} has no weights for these parts of {model.name!r}, which are as they were "
                f"initialized: {', '.join(report.left_as_it_was)}.",
                stacklevel=2,
            )
    return model
