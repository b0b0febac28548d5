"""Reading a functional model as a graph: what produces a tensor, what uses it."""

from collections.abc import Callable

import keras
from keras import ops


def producer(tensor: keras.KerasTensor):
    """The layer or operation that gives a tensor of a functional model."""
    return tensor._keras_history.operation


def class_of(function: Callable) -> type:
    """Return the class of the operation that a function of `keras.ops` adds to a functional model.

    Keras exports only the functions. Operations are recognized by class: a user's own layer may have any name.
    """
    return type(producer(function(keras.KerasTensor((1, 2, 3)))))


TRANSPOSE = class_of(ops.transpose)
SOFTMAXES = (keras.layers.Softmax, class_of(ops.softmax))

# Layers and operations that only move numbers. These keep the numbers in their order,
RESHAPES = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    class_of(lambda x: ops.reshape(x, (2, 3))),
    class_of(lambda x: ops.squeeze(x, 0)),
    class_of(lambda x: ops.expand_dims(x, 0)),
)
# these change their order,
PERMUTATIONS = (keras.layers.Permute, TRANSPOSE, class_of(lambda x: ops.swapaxes(x, 1, 2)))
# and these keep some of them.
SLICES = (keras.layers.Cropping1D, keras.layers.Cropping2D, class_of(lambda x: x[:, :1]))


def as_functional(model: keras.Model) -> keras.Model:
    """Return a functional or sequential model as a functional one that shares its layers.

    Raises:
        TypeError: The model is of another kind, whose layers cannot be seen.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model) or not hasattr(model, "operations"):
        raise TypeError(
            "A functional or a built sequential Keras model is needed, whose layers can be seen; "
            f"received {type(model).__name__}."
        )
    return model


def check_is_float(model: keras.Model, function: str) -> None:
    """Check that a model is not one of `keras_vit.edge.quantize_aware`.

    Raises:
        ValueError: The model is quantized. The message says what to do instead of calling the function of this name.
    """
    if any(getattr(layer, "is_of_a_quantized_model", False) for layer in model.layers):
        raise ValueError(
            f"{function} takes a float model, but {model.name!r} is quantized for the layers and tensors that it has "
            f"now. Call {function} on the float model that it was made from, and then keras_vit.edge.quantize_aware on "
            "the result."
        )


def not_compiled(model: keras.Model) -> keras.Model:
    """Return a view of a model that shares its layers and is not compiled.

    Keras would compile a clone like its model, with an optimizer for the model's variables and not for the clone's.
    """
    model = as_functional(model)
    return keras.Model(model.input, model.output, name=model.name)


def calls_before(tensors: list[keras.KerasTensor]) -> list:
    """Return the calls of layers and operations that tensors depend on, each one after those that it depends on itself.

    They are Keras' nodes, with an `operation`, its `arguments`, `input_tensors` and `output_tensors`.
    """
    ordered, waiting = {}, [_call_of(tensor) for tensor in reversed(tensors)]
    while waiting:
        call = waiting[-1]
        before = [] if call in ordered else [parent for parent in call.parent_nodes if parent not in ordered]
        if before:
            waiting += reversed(before)
        else:
            ordered[waiting.pop()] = None
    return list(ordered)


def _call_of(tensor):
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


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
    """Return the layers and operations that use what each layer or operation of a flat model gives, by its name.

    Each of them is listed once. None stands for an output of the model.
    """
    uses = {operation.name: {} for operation in flat.operations}
    for operation in flat.operations:
        for tensor in inputs_of(operation):
            uses[producer(tensor).name][operation] = None
    for tensor in flat.outputs:
        uses[producer(tensor).name][None] = None
    return {name: list(users) for name, users in uses.items()}
