"""Reading a functional model as a graph: what gives a tensor, what takes it."""

import keras


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
