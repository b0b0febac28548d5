"""A trained model at another image size, or with another head.

A layer whose configuration or weights depend on the size of the image says so by one or both of these methods:

- `config_at(input_shape, old_image, new_image)` gives its configuration in the same model at another size. The shape is
  that of its input there, with the batch; the images are (height, width) in pixels, for a layer whose input does not
  show its grid. A composite that is told the size of its map has this too.
- `weights_from(old)` is called on the layer at the new size, when it is built, and gives its weights by name, as NumPy
  arrays, from those of the layer at the old size.

`keras_vit.layers.PositionEmbedding` has both. All other layers are made from their configuration as it is, and their
weights are copied.
"""

from collections.abc import Callable

import keras

from keras_vit.graph import as_functional, copy, leaves, node_of, not_compiled, producer

_UNCHANGED = "unchanged"


def resize_model(model: keras.Model, input_shape: tuple[int, int, int]) -> keras.Model:
    """A trained model for images of another size.

    Args:
        model: A functional or sequential model of an image; it is left as it was.
        input_shape: (height, width, channels); the channels are the model's.

    Returns:
        A functional model with weights of its own, not compiled. Position embeddings are resized as the family's
        authors do; all other weights are equal.

    Raises:
        ValueError: The model cannot take this size, or has weights that depend on the size in a way unknown here.
    """
    model = as_functional(model)
    shape = tuple(input_shape)
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
    for (name, before), (_, after) in zip(_weighted_leaves(model), _weighted_leaves(resized), strict=True):
        if hasattr(after, "weights_from"):
            values = after.weights_from(before)
            for variable in after.weights:
                variable.assign(values[variable.name])
        else:
            _copy(name, before, after)
    _check_by_running(resized)
    return resized


def new_head(model: keras.Model, classes: int, classifier_activation: str | None = _UNCHANGED) -> keras.Model:
    """A trained model with a new, untrained classifier for other classes.

    The classifier is the dense layer that the model ends in, an activation behind it not counted; or several, where an
    output is computed from those, such as the mean of DeiT's two.

    Args:
        model: A functional or sequential model; it is left as it was.
        classes: Number of classes.
        classifier_activation: Activation of the class scores in place of the model's own, or None for logits.

    Returns:
        A functional model with weights of its own, not compiled. All weights but the classifier's are equal.

    Raises:
        ValueError: The model does not end in a classifier.
    """
    if not isinstance(classes, int) or classes < 1:
        raise ValueError(f"classes is a positive integer; received {classes!r}.")
    model = as_functional(model)
    heads, activations = _ending(model)
    last = {producer(tensor).name for tensor in model.outputs}
    new_activation = classifier_activation != _UNCHANGED

    def make(operation):
        if operation.name not in heads:
            return copy(operation)
        changes = {"units": classes} | ({"activation": "linear"} if new_activation else {})
        return type(operation).from_config({**operation.get_config(), **changes})

    def call(operation, *args, **kwargs):
        if not new_activation:
            return operation(*args, **kwargs)
        scores = args[0] if operation.name in activations else operation(*args, **kwargs)
        if operation.name not in last or classifier_activation in (None, "linear"):
            return scores
        name = "predictions" if len(last) == 1 else f"{operation.name}_predictions"
        # In float32, as the builders do.
        return keras.layers.Activation(classifier_activation, dtype="float32", name=name)(scores)

    changed = _clone(model, None, make, call)
    for (name, before), (_, after) in zip(_weighted_leaves(model), _weighted_leaves(changed), strict=True):
        if name not in heads:
            _copy(name, before, after)
    return changed


def _resized(model, shape, old_image, new_image):
    changed = {}  # By name: what depends on the shape of its input, made when that is known.

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

    return _clone(model, keras.tree.map_structure(resized_input, model.input), make, call)


def _depends_on_size(operation):
    return isinstance(operation, keras.Model) or hasattr(operation, "config_at")


def _check_by_running(model):
    """A layer that states its output's shape without looking at its input fails only when it computes."""
    tensor = model.inputs[0]
    try:
        model(keras.ops.zeros((1, *tensor.shape[1:]), tensor.dtype), training=False)
    except Exception as error:  # Of a kind of the backend's own.
        raise ValueError(
            f"{model.name!r} cannot take images of {tensor.shape[1]} x {tensor.shape[2]}: some layer of it holds "
            f"another size in its configuration and has no `config_at`, see keras_vit.rebuild. {error}"
        ) from error


def _clone(model: keras.Model, inputs, make: Callable, call: Callable) -> keras.Model:
    view = not_compiled(model)
    return keras.models.clone_model(view, input_tensors=inputs, clone_function=make, call_function=call)


def _weighted_leaves(model):
    return [(name, layer) for name, layer in leaves(model) if layer.weights]


def _copy(name, before, after):
    for old, new in zip(before.weights, after.weights, strict=True):
        if old.shape != new.shape:
            raise ValueError(
                f"The weight '{name}/{old.name}' is {tuple(old.shape)} at the old size and {tuple(new.shape)} at the "
                "new one, and its layer does not say how one becomes the other."
            )
        new.assign(old)
    after.trainable = before.trainable


def classifiers(model: keras.Model) -> set[str]:
    """Names of the dense layers that a functional or sequential model ends in; none if it gives features."""
    try:
        return _ending(as_functional(model))[0]
    except _NoClassifierError:
        return set()


class _NoClassifierError(ValueError):
    """A model does not end in a classifier."""


def _ending(model: keras.Model) -> tuple[set[str], set[str]]:
    """Names of the dense layers that a model ends in, and of the activations behind them."""
    heads, activations = set(), set()
    waiting = list(model.outputs)
    while waiting:
        tensor = waiting.pop()
        operation = producer(tensor)
        if len(tensor.shape) == 2 and isinstance(operation, keras.layers.Dense):
            heads.add(operation.name)
            continue
        before = node_of(model, operation).input_tensors
        if len(tensor.shape) != 2 or not before or getattr(operation, "weights", []):
            raise _NoClassifierError(
                f"{model.name!r} does not end in a classifier, a dense layer of its own, but in {operation.name!r}, "
                f"a {type(operation).__name__} that gives {tuple(tensor.shape)}."
            )
        if isinstance(operation, (keras.layers.Activation, keras.layers.Softmax)):
            activations.add(operation.name)
        waiting += before
    return heads, activations
