"""The classifier at the end of a model, and its replacement."""

import numbers

import keras

from keras_vit.graph.flattening import weighted_leaves
from keras_vit.graph.reading import check_is_float, node_of, producer
from keras_vit.graph.rebuilding import as_functional, clone, copy, copy_layer_weights
from keras_vit.models.classes import set_class_names

_UNCHANGED = "unchanged"


def new_head(model: keras.Model, classes: int, classifier_activation: str | None = _UNCHANGED) -> keras.Model:
    """Return a trained model with a new, untrained classifier for other classes.

    The classifier is the dense layer at the end of the model, before any activation; or several dense layers if an
    output is computed from them, such as the mean of DeiT's two.

    Args:
        model: A functional or sequential model; it is left as it was.
        classes: Number of classes.
        classifier_activation: Activation of the class scores instead of the model's own, or None for logits.

    Returns:
        A functional model with weights of its own, not compiled. Only the classifier's weights differ.

    Raises:
        TypeError: The model is neither functional nor sequential.
        ValueError: The model does not end in a classifier, is quantized, or has a layer that cannot be copied.
    """
    if not isinstance(classes, numbers.Integral) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"classes must be a positive integer; received classes={classes!r}.")
    model = as_functional(model)
    check_is_float(model, "new_head")
    heads, activations = _ending(model)
    last = {producer(tensor).name for tensor in model.outputs}
    new_activation = classifier_activation != _UNCHANGED

    def make(operation):
        if operation.name not in heads:
            return copy(operation)
        changes = {"units": int(classes)} | ({"activation": "linear"} if new_activation else {})
        return type(operation).from_config({**operation.get_config(), **changes})

    def call(operation, *args, **kwargs):
        if not new_activation:
            return operation(*args, **kwargs)
        scores = args[0] if operation.name in activations else operation(*args, **kwargs)
        if operation.name not in last or classifier_activation in (None, "linear"):
            return scores
        name = "predictions" if len(last) == 1 else f"{operation.name}_predictions"
        # In float32, as in the models' builders.
        return keras.layers.Activation(classifier_activation, dtype="float32", name=name)(scores)

    changed = clone(model, None, make, call)
    for (name, before), (_, after) in zip(weighted_leaves(model), weighted_leaves(changed), strict=True):
        if name not in heads:
            copy_layer_weights(name, before, after)
    set_class_names(changed, None)
    return changed


def classifiers(model: keras.Model) -> set[str]:
    """Return the names of the dense layers at the end of a model; none if it has no classifier."""
    try:
        return _ending(as_functional(model))[0]
    except _NoClassifierError:
        return set()


class _NoClassifierError(ValueError):
    """A model does not end in a classifier."""


def _ending(model: keras.Model) -> tuple[set[str], set[str]]:
    """Return the names of the dense layers at the end of a model, and of the activations after them."""
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
                f"{model.name!r} does not end in a classifier, which is a dense layer outside any other layer, but in "
                f"{operation.name!r}, a {type(operation).__name__} with the output shape {tuple(tensor.shape)}."
            )
        if isinstance(operation, (keras.layers.Activation, keras.layers.Softmax)):
            activations.add(operation.name)
        waiting += before
    return heads, activations
