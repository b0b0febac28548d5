"""The parts that all builders share: the input, the head, and the weights."""

import os
import warnings

import keras

from keras_vit.layers import Preprocessing
from keras_vit.models.image_facts import ImageFacts, Statistics
from keras_vit.weights.load import load_weights

_PREPROCESSING = "preprocessing"  # Name of the layer that holds a model's image facts.


def image_input(
    input_shape: tuple[int, int, int] | None,
    default_size: tuple[int, int],
    input_tensor=None,
    dtype: str | None = None,
) -> keras.KerasTensor:
    """Return the input tensor of a model, (batch, height, width, channels).

    Args:
        input_shape: (height, width, channels), or None for `default_size` with 3 channels.
        default_size: (height, width) in pixels.
        input_tensor: Tensor to return instead of a new input, or None.
        dtype: Data type of a new input, or None for Keras' default.

    Raises:
        ValueError: The shape is invalid, or the images are not channels-last.
    """
    shape = (*default_size, 3) if input_shape is None else tuple(input_shape)
    if input_tensor is not None:
        shape = tuple(input_tensor.shape[1:])
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(
            "input_shape must be (height, width, channels), three positive integers such as (224, 224, 3); "
            f"received {shape}."
        )
    if keras.config.image_data_format() == "channels_first" or (shape[0] in (1, 3) and shape[2] > 4):
        raise ValueError(
            "The models of keras_vit take channels-last images (height, width, channels), the layout that devices use; "
            f"received the shape {shape} with image_data_format "
            f"{keras.config.image_data_format()!r}. Call keras.config.set_image_data_format('channels_last') and pass "
            "an input_shape with the channels last."
        )
    if input_tensor is not None:
        return input_tensor
    return keras.Input(shape, dtype=dtype, name="image")


def preprocess(images, include_preprocessing: bool | Statistics, statistics: Statistics):
    """Normalize images if requested, and record in the graph how the model takes its images.

    Args:
        images: (batch, height, width, channels).
        include_preprocessing: Whether to normalize images in [0, 255] with `statistics`, or the `Statistics` to
            normalize with instead.
        statistics: The default of the family.

    Returns:
        The input of the model's first layer, of the images' shape.

    Raises:
        ValueError: The model normalizes its images, and the statistics are for a different number of channels.
    """
    if isinstance(include_preprocessing, Statistics):
        statistics = include_preprocessing
    normalize = bool(include_preprocessing)
    if normalize:
        statistics.scale_and_offset(images.shape[-1])  # Raises an error if the number of channels differs.
    else:
        statistics = statistics.for_channels(images.shape[-1])
    return Preprocessing(statistics.mean, statistics.std, normalize=normalize, name=_PREPROCESSING)(images)


def check_stages(**settings: tuple) -> int:
    """Return the number of stages of a model.

    Args:
        settings: The settings that have a number for each stage, by name.

    Raises:
        ValueError: They do not have the same length, or they are empty.
    """
    lengths = {len(values) for values in settings.values()}
    if len(lengths) != 1 or 0 in lengths:
        received = ", ".join(f"{name}={tuple(values)}" for name, values in settings.items())
        raise ValueError(f"{', '.join(settings)} must each have a number for each stage; received {received}.")
    return lengths.pop()


def pool_map(maps, pooling: str | None, dtype=None):
    """Reduce a map (batch, height, width, channels) to a vector (batch, channels).

    Args:
        maps: The map.
        pooling: "avg" for the mean over the pixels, "max" for the maximum, or None to return the map.
        dtype: Keras dtype policy of the layer, or None for the global one.
    """
    if pooling is None:
        return maps
    layer = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[pooling]
    return layer(dtype=dtype, name="pooling")(maps)


def set_image_facts(model: keras.Model, facts: ImageFacts) -> keras.Model:
    """Record in a model how its published form takes images, and return the model.

    A model that normalizes its images itself keeps the statistics that it uses.
    """
    layer = model.get_layer(_PREPROCESSING)
    if not layer.normalize:
        statistics = facts.statistics.for_channels(layer.output.shape[-1])
        layer.mean, layer.std = statistics.mean, statistics.std
    layer.crop_fraction, layer.interpolation, layer.source = facts.crop_fraction, facts.interpolation, facts.source
    return model


def logits(features, classes: int, dtype=None, name: str = "head", initializer: str = "glorot_uniform"):
    """Compute logits (batch, classes) from a feature vector (batch, features)."""
    return keras.layers.Dense(classes, kernel_initializer=initializer, dtype=dtype, name=name)(features)


def predictions(scores, activation: str | None):
    """Apply the activation of the class scores (batch, classes) as the model's last layer, or nothing for None."""
    if activation in (None, "linear"):
        return scores
    # Probabilities are float32 whatever the dtype policy: a loss that is computed from float16 ones underflows.
    return keras.layers.Activation(activation, dtype="float32", name="predictions")(scores)


def classifier(features, classes: int, activation: str | None, dtype=None, initializer: str = "glorot_uniform"):
    """Compute class scores (batch, classes) from a feature vector (batch, features)."""
    return predictions(logits(features, classes, dtype, initializer=initializer), activation)


def finish(images, input_tensor, outputs, name: str, weights: str | os.PathLike | None) -> keras.Model:
    """Return the model with these outputs, and load its weights.

    Args:
        images: Input tensor of the model, unless `input_tensor` is given.
        input_tensor: Tensor that the caller passed to the builder, or None. The model then starts at its source inputs.
        outputs: Output tensor, or a list of them.
        name: Name of the model.
        weights: As in `with_weights`.
    """
    inputs = images if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    return with_weights(keras.Model(inputs, outputs, name=name), weights)


def with_weights(model: keras.Model, weights: str | os.PathLike | None) -> keras.Model:
    """Load the weights of a file, if one is given, and return the model.

    If the file has no classifier, or one for a different number of classes, the model keeps its own and a warning names
    its weights.

    Raises:
        ValueError: There is no such file, or it does not fit the model.
    """
    if weights is not None:
        if not os.path.exists(weights):
            raise ValueError(
                f"weights={weights!r} is not a file. Pass None for random weights, or the path of a .safetensors, .npz "
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
