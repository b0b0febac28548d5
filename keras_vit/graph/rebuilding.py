"""Copies of functional models in which some layers are made or called differently."""

from collections.abc import Callable

import keras

from keras_vit.graph.copying import copying
from keras_vit.graph.flat_graph import Graph
from keras_vit.graph.reading import as_functional, not_compiled

__all__ = ["as_functional", "clone", "copy", "copy_layer_weights", "rebuild"]


def copy(operation: keras.Operation) -> keras.Operation:
    """Return an unbuilt copy of a layer or operation, of the same name.

    Raises:
        ValueError: Its class cannot be made again from its configuration.
    """
    with copying(operation.name, type(operation)):
        return type(operation).from_config(operation.get_config())


def rebuild(
    flat: keras.Model,
    make: Callable[[keras.layers.Layer], keras.layers.Layer] | None = None,
    call: Callable | None = None,
) -> keras.Model:
    """Return a copy of a flat model with some layers made or called differently; weights carry over by name.

    Args:
        flat: What `flatten` returned, or a model rebuilt from one.
        make: From a layer to the layer that takes its place, not yet built, of the same name.
        call: (layer, *args, **kwargs) -> output tensors, in place of calling the layer. It may leave the layer out or
            call others around it.
    """
    return Graph(flat).build(make, call)


def clone(model: keras.Model, inputs, make: Callable, call: Callable) -> keras.Model:
    """Return a clone of a model on new inputs, as `keras.models.clone_model` does, not compiled."""
    view = not_compiled(model)
    return keras.models.clone_model(view, input_tensors=inputs, clone_function=make, call_function=call)


def copy_layer_weights(name: str, before: keras.layers.Layer, after: keras.layers.Layer) -> None:
    """Copy the weights and the trainable flag of a layer; `name` is its name in error messages."""
    for old, new in zip(before.weights, after.weights, strict=True):
        if old.shape != new.shape:
            raise ValueError(
                f"The weight '{name}/{old.name}' has the shape {tuple(old.shape)} at the old size and "
                f"{tuple(new.shape)} at the new one, and its layer has no `weights_from`."
            )
        new.assign(old)
    after.trainable = before.trainable
