"""Any model as a flat graph of leaf layers: the form that folding, quantization, export and the look inside share."""

from collections.abc import Callable, Iterator

import keras

from keras_vit.layers.composite import Composite, opened


def leaves(model: keras.Model) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Every leaf layer of a model with the name it has in `flatten(model)`, such as "block_0.attention.query"."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield from _leaves_below(layer, layer.name)


def _leaves_below(layer, name):
    if not isinstance(layer, Composite):
        yield name, layer
        return
    for attribute, part in layer.parts().items():
        yield from _leaves_below(part, f"{name}.{attribute}")


def flatten(model: keras.Model) -> keras.Model:
    """A copy of a model in which every composite layer is replaced by its leaves.

    Args:
        model: A functional or sequential model of any layers; composites of keras_vit are opened, others stay whole.

    Returns:
        A functional model with the same outputs and weights, whose layers are named by their place, such as
        "block_0.attention.query". Training it leaves the original alone.
    """

    flat = opened_up(model)
    copy_weights(dict(leaves(model)), flat)
    return flat


def opened_up(model: keras.Model) -> keras.Model:
    """`flatten` without the weights: they are new."""

    def call(layer, *args, **kwargs):
        return (layer.call if isinstance(layer, keras.Model) else layer)(*args, **kwargs)

    with opened():
        return keras.models.clone_model(
            not_compiled(model), clone_function=_copy_named_by_place, call_function=call, recursive=True
        )


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


def not_compiled(model: keras.Model) -> keras.Model:
    """A view of a model that shares its layers and is not compiled.

    Keras would compile a clone like its model, with an optimizer for the model's variables and not for the clone's.
    """
    model = as_functional(model)
    return keras.Model(model.input, model.output, name=model.name)


def copy(operation):
    """An unbuilt copy of a layer or operation, of the same name."""
    return type(operation).from_config(operation.get_config())


def producer(tensor: keras.KerasTensor):
    """The layer or operation that gives a tensor of a functional model."""
    return tensor._keras_history.operation


def inputs_of(operation) -> list[keras.KerasTensor]:
    """The tensors that a layer or operation of a flat model takes."""
    return [tensor for node in operation._inbound_nodes for tensor in node.input_tensors]


def node_of(model: keras.Model, operation):
    """The one call of a layer or operation within a functional model, with its `input_tensors` and `output_tensors`.

    A layer that other models share has calls of theirs, which do not count.

    Raises:
        ValueError: The model calls it more than once.
    """
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth if node.operation is operation]
    if len(nodes) != 1:
        raise ValueError(f"{operation.name!r} is called {len(nodes)} times in {model.name!r}, where one is looked for.")
    return nodes[0]


def is_called_once(operation) -> bool:
    """Whether a layer of a flat model stands in one place only; one that is shared cannot be folded for one of them."""
    return len(operation._inbound_nodes) == 1


def consumers(flat: keras.Model) -> dict[str, list]:
    """By name of each layer or operation of a flat model, those that use what it gives; None is the model's output."""
    uses = {operation.name: [] for operation in flat.operations}
    for operation in flat.operations:
        for tensor in inputs_of(operation):
            uses[producer(tensor).name].append(operation)
    for tensor in flat.outputs:
        uses[producer(tensor).name].append(None)
    return uses


def _copy_named_by_place(layer):
    duplicate = copy(layer)
    _name_parts(duplicate)
    return duplicate


def _name_parts(layer):
    if isinstance(layer, Composite):
        for attribute, part in layer.parts().items():
            part.name = f"{layer.name}.{attribute}"
            _name_parts(part)
