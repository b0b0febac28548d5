"""Copies of functional models in which some layers are made or called differently."""

from collections.abc import Callable

import keras


def as_functional(model: keras.Model) -> keras.Model:
    """A functional or sequential model as a functional one, sharing its layers; a sentence for any other."""
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise TypeError(
            "A functional or a built sequential Keras model is needed, whose layers can be seen; "
            f"received {type(model).__name__}."
        )
    return model


def not_compiled(model: keras.Model) -> keras.Model:
    """A view of a model that shares its layers and is not compiled.

    Keras would compile a clone like its model, with an optimizer for the model's variables and not for the clone's.
    """
    model = as_functional(model)
    return keras.Model(model.input, model.output, name=model.name)


def copy(operation):
    """An unbuilt copy of a layer or operation, of the same name."""
    return type(operation).from_config(operation.get_config())


def copy_weights(source: dict[str, keras.layers.Layer], target: keras.Model) -> None:
    """Gives each layer of a flat model the weights of the source's layer of that name, by the weights' own names."""
    for layer in target.layers:
        given = {variable.name: variable for variable in source[layer.name].weights} if layer.name in source else {}
        for variable in layer.weights:
            if variable.name in given:
                variable.assign(given[variable.name])


def rebuild(
    flat: keras.Model,
    make: Callable[[keras.layers.Layer], keras.layers.Layer] | None = None,
    call: Callable | None = None,
) -> keras.Model:
    """A copy of a flat model with some layers made or called differently; weights carry over by name.

    Args:
        flat: What `flatten` returned, or a model rebuilt from one.
        make: From a layer to the layer that takes its place, not yet built, of the same name.
        call: (layer, *args, **kwargs) -> output tensors, in place of calling the layer; may leave it out or put others
            around it.
    """
    rebuilt = remade(flat, make, call)
    copy_weights({layer.name: layer for layer in flat.layers}, rebuilt)
    return rebuilt


def remade(
    flat: keras.Model,
    make: Callable[[keras.layers.Layer], keras.layers.Layer] | None = None,
    call: Callable | None = None,
) -> keras.Model:
    """`rebuild` without the weights: they are new."""

    def clone(operation):
        if make is not None and isinstance(operation, keras.layers.Layer):
            return make(operation)
        return copy(operation)

    return keras.models.clone_model(not_compiled(flat), clone_function=clone, call_function=call)


def clone(model: keras.Model, inputs, make: Callable, call: Callable) -> keras.Model:
    view = not_compiled(model)
    return keras.models.clone_model(view, input_tensors=inputs, clone_function=make, call_function=call)


def copy_layer_weights(name, before, after):
    for old, new in zip(before.weights, after.weights, strict=True):
        if old.shape != new.shape:
            raise ValueError(
                f"The weight '{name}/{old.name}' is {tuple(old.shape)} at the old size and {tuple(new.shape)} at the "
                "new one, and its layer does not say how one becomes the other."
            )
        new.assign(old)
    after.trainable = before.trainable
