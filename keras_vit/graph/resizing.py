"""A trained model at another image size.

A layer whose configuration or weights depend on the image size has one or both of these methods:

- `config_at(input_shape, old_image, new_image)` returns its configuration in the same model at another size. The shape
  is that of its input at that size, with the batch; the images are (height, width) in pixels. A composite whose
  configuration contains the size of its map has this method too.
- `weights_from(old)` is called on the built layer at the new size with the layer at the old size, and returns the new
  weights by name as NumPy arrays.

`keras_vit.layers.PositionEmbedding` has both. All other layers keep their configuration, and their weights are copied.
"""

import keras

from keras_vit.graph.flattening import weighted_leaves
from keras_vit.graph.reading import check_is_float
from keras_vit.graph.rebuilding import as_functional, clone, copy, copy_layer_weights
from keras_vit.utils.plain import plain


def resize_model(model: keras.Model, input_shape: tuple[int, int, int]) -> keras.Model:
    """Return a trained model for images of another size.

    Args:
        model: A functional or sequential model of an image; it is left as it was.
        input_shape: (height, width, channels), with the model's channels.

    Returns:
        A functional model with weights of its own, not compiled. Position embeddings are resized as the family's
        authors do; all other weights are copied.

    Raises:
        TypeError: The model is neither functional nor sequential.
        ValueError: The model cannot take this size, is quantized, or has a layer that cannot be copied or whose weights
            depend on the size without a `weights_from`.
    """
    model = as_functional(model)
    check_is_float(model, "resize_model")
    shape = plain(tuple(input_shape)) if isinstance(input_shape, (tuple, list)) else (input_shape,)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        taken = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise ValueError(f"resize_model takes a model of an image; {model.name!r} takes {taken}.")
    old = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape) or shape[2] != old[2]:
        raise ValueError(
            f"input_shape is (height, width, {old[2]}) with positive integers, since {model.name!r} takes images of "
            f"{old[2]} channels; received {input_shape!r}."
        )
    resized = _resized(model, (None, *shape), old[:2], shape[:2])
    for (name, before), (_, after) in zip(weighted_leaves(model), weighted_leaves(resized), strict=True):
        if hasattr(after, "weights_from"):
            values = after.weights_from(before)
            for variable in after.weights:
                variable.assign(values[variable.name])
        else:
            copy_layer_weights(name, before, after)
    _check_by_running(resized)
    return resized


def _resized(model, shape, old_image, new_image):
    changed = {}  # By name: layers that depend on the shape of their input, made when it is known.

    def make(operation):
        return operation if _depends_on_size(operation) else copy(operation)

    def call(operation, *args, **kwargs):
        if _depends_on_size(operation) and operation.name not in changed:
            input_shape = tuple(args[0].shape)
            if isinstance(operation, keras.Model):
                changed[operation.name] = _resized(as_functional(operation), input_shape, old_image, new_image)
            else:
                config = operation.config_at(input_shape, old_image, new_image)
                changed[operation.name] = type(operation).from_config(config)
        try:
            return changed.get(operation.name, operation)(*args, **kwargs)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{model.name!r} cannot take images of {new_image[0]} x {new_image[1]}: its layer {operation.name!r} "
                f"does not fit. {error}"
            ) from error

    def resized_input(tensor):
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)

    return clone(model, keras.tree.map_structure(resized_input, model.input), make, call)


def _depends_on_size(operation):
    return isinstance(operation, keras.Model) or hasattr(operation, "config_at")


def _check_by_running(model):
    """Run a model once, since a layer that computes its output shape without its input fails only when called."""
    tensor = model.inputs[0]
    try:
        model(keras.ops.zeros((1, *tensor.shape[1:]), tensor.dtype), training=False)
    except Exception as error:  # Its class depends on the backend.
        raise ValueError(
            f"{model.name!r} cannot take images of {tensor.shape[1]} x {tensor.shape[2]}: some layer of it holds "
            f"another size in its configuration and has no `config_at`, see keras_vit.graph.resizing. {error}"
        ) from error
