"""A model as a flat graph of leaf layers, which can be edited before any layer is made.

Reading a model makes no layers and copies no weights, and editing changes only what a node says. `Graph.build` makes
the layers, each once and with its final weights. That is what keeps flattening, fusing and rebuilding quick. With
TensorFlow, weights that are the same in several models share their memory until one of the models is trained.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_vit.graph.copying import copying
from keras_vit.graph.initial_weights import InitialWeights, NodeWeights, weights_by_name
from keras_vit.graph.places import is_opened, operations_below, places
from keras_vit.graph.reading import as_functional, calls_before
from keras_vit.layers.composite import Composite, opened


class Tensor:
    """What a call of a node gives.

    Attributes:
        node: The `Node` that gives it.
        shape, dtype, name: Those of the Keras tensor.
        users: The calls that take it, once for each time that they take it.
    """

    def __init__(self, node: "Node", tensor: keras.KerasTensor):
        self.node = node
        self.shape, self.dtype, self.name = tuple(tensor.shape), tensor.dtype, tensor.name
        self.users: list[Call] = []


class Call:
    """One call of a node.

    Attributes:
        node: The `Node` that is called; None for the call that stands for the end of the model.
        inputs: The tensors that it takes.
        outputs: The tensors that it gives.
    """

    def __init__(self, node: "Node | None", inputs: list[Tensor], fill: Callable | None = None):
        self.node = node
        self.inputs = inputs
        self.outputs: list[Tensor] = []
        self._fill = fill
        for tensor in inputs:
            tensor.users.append(self)

    def arguments(self, values: list) -> tuple[tuple, dict]:
        """Return the positional and named arguments of the call, with `values` in place of the inputs."""
        return self._fill(values) if self._fill else (tuple(values), {})

    def forget_constants(self) -> None:
        """Pass the inputs only, by position, and no other argument."""
        self._fill = None


class Node:
    """A leaf layer or an operation.

    Attributes:
        kind: Its class.
        name: Its name in the flat model.
        source: The layer or operation that it was read from; None for one that was inserted.
        config: Its configuration, which may be changed.
        weights: Its weights by name as NumPy arrays, which may be replaced, see `NodeWeights`.
        calls: Its calls: several for a layer that is shared.
    """

    def __init__(self, kind: type[keras.Operation], name: str, source: Any = None, trainable: bool = True):
        self.kind = kind
        self.name = name
        self.source = source
        self.calls: list[Call] = []
        self._trainable = trainable
        self._weights: NodeWeights | None = None

    @functools.cached_property
    def config(self) -> dict:
        with copying(self.name, self.kind):
            config = self.source.get_config()
        return {**config, "trainable": self._trainable} if "trainable" in config else config

    @property
    def weights(self) -> NodeWeights:
        if self._weights is None:
            is_layer = isinstance(self.source, keras.layers.Layer)
            self._weights = NodeWeights(weights_by_name(self.source) if is_layer else {})
        return self._weights

    @weights.setter
    def weights(self, values: Mapping[str, Any]) -> None:
        self._weights = values if isinstance(values, NodeWeights) else NodeWeights(values)

    def is_a(self, *kinds: type) -> bool:
        """Whether this is a layer or operation of one of these classes."""
        return issubclass(self.kind, kinds)

    @property
    def is_called_once(self) -> bool:
        """Whether it has one call with one output. A shared layer cannot be changed for one of its places only."""
        return len(self.calls) == 1 and len(self.calls[0].outputs) == 1

    @property
    def inputs(self) -> list[Tensor]:
        """What it takes, in all calls."""
        return [tensor for call in self.calls for tensor in call.inputs]

    @property
    def output(self) -> Tensor:
        """What the only call of a node gives."""
        return self.calls[0].outputs[0]

    @property
    def users(self) -> "list[Node | None]":
        """The nodes that take what it gives; None stands for an output of the model."""
        return [user.node for call in self.calls for tensor in call.outputs for user in tensor.users]

    def make(self) -> keras.Operation:
        """Return the layer or operation that this describes, not built."""
        config = {**self.config, "name": self.name}
        with copying(self.name, self.kind):
            return self.kind.from_config(config)

    def become(self, kind: type[keras.layers.Layer], config: dict, weights: Mapping[str, Any]) -> None:
        """Make this a layer of another class, which is called on the inputs alone."""
        self.kind, self.config, self.weights = kind, config, weights
        for call in self.calls:
            call.forget_constants()


class Graph:
    """A model as a flat graph; the model is left as it was.

    Args:
        model: A functional or sequential model. Its composites and the models inside it are opened.

    Attributes:
        nodes: All `Node`s, each one after those that it takes from.
    """

    def __init__(self, model: keras.Model):
        model = as_functional(model)
        self._name = model.name
        self._calls: list[Call] = []
        found = {id(layer): (name, trainable) for name, layer, trainable in places(model)}
        if any(is_opened(operation) or isinstance(operation, Composite) for operation in model.operations):
            with _recording_nothing(model):
                inputs = keras.tree.map_structure(input_like, model.input)
                with opened():
                    outputs = call_leaves(model, inputs)
                self._read(inputs, outputs, found)
        else:
            self._read(model.input, model.output, found)

    @property
    def nodes(self) -> list[Node]:
        return list(dict.fromkeys(call.node for call in self._calls if call.node is not None))

    @property
    def inputs(self) -> list[Tensor]:
        """What the model takes, in the order of its `inputs`."""
        return keras.tree.flatten(self._inputs)

    def remove(self, node: Node) -> None:
        """Take a node out: those that used its output use its first input."""
        for call in node.calls:
            before = call.inputs[0]
            for tensor in call.inputs:
                tensor.users.remove(call)
            _replace(call.outputs[0], before, call.outputs[0].users)
            self._calls.remove(call)
        node.calls = []

    def insert(self, node: Node, tensor: Tensor, users: list[Node | None]) -> None:
        """Call a new node on a tensor, and let these users take its output in place of the tensor.

        Args:
            node: A node that has no call yet and does not change the shape, or whose users know what it gives.
            tensor: What it takes.
            users: Nodes among the tensor's users, or None for the model's outputs.
        """
        moved = [call for call in tensor.users if call.node in users]
        call = Call(node, [tensor])
        call.outputs = [Tensor(node, tensor)]
        node.calls = [call]
        self._calls.insert(self._calls.index(tensor.node.calls[-1]) + 1, call)
        _replace(tensor, call.outputs[0], moved)

    def split(self, node: Node, parts: list[Node]) -> None:
        """Replace a node that is called once by the sum of several nodes, which take its input.

        Args:
            node: The node, which becomes the sum and keeps its name.
            parts: Nodes that have no call yet and give the shape that the node gives.
        """
        (call,), tensor = node.calls, node.inputs[0]
        place = self._calls.index(call)
        tensor.users.remove(call)
        for part in parts:
            each = Call(part, [tensor])
            each.outputs = [Tensor(part, call.outputs[0])]
            part.calls = [each]
            self._calls.insert(place, each)
            place += 1
        node.become(keras.layers.Add, {name: node.config[name] for name in ("dtype", "trainable")}, {})
        self._calls.remove(call)
        whole = Call(node, [part.output for part in parts], lambda values: ((values,), {}))
        whole.outputs = call.outputs
        node.calls = [whole]
        self._calls.insert(place, whole)

    def build(self, make: Callable | None = None, call: Callable | None = None) -> keras.Model:
        """Return a new functional model of this graph.

        Args:
            make: (layer that a node was read from) -> the layer that takes its place, not built, of the same name.
                Weights carry over by name.
            call: (layer, *args, **kwargs) -> output tensors, in place of calling the layer.
        """
        layers, initial = {}, {}
        inputs = keras.tree.map_structure(input_like, self._inputs)
        values = dict(zip(keras.tree.flatten(self._inputs), keras.tree.flatten(inputs), strict=True))
        for each in self._calls:
            node = each.node
            assert node is not None  # Only the model's outputs have no node.
            if node.is_a(keras.layers.InputLayer):
                continue
            if node not in layers:
                if make is not None and node.is_a(keras.layers.Layer):
                    layers[node] = make(node.source)
                else:
                    layers[node] = node.make()
                if node.weights:
                    initial[node] = InitialWeights(layers[node], node.weights.values_to_copy)
            args, kwargs = each.arguments([values[tensor] for tensor in each.inputs])
            outputs = (call or _call)(layers[node], *args, **kwargs)
            values.update(zip(each.outputs, keras.tree.flatten(outputs), strict=True))
            if node in initial and layers[node].built:
                initial.pop(node).finish()
        (outputs,), _ = self._end.arguments([values[tensor] for tensor in self._end.inputs])
        return keras.Model(inputs, outputs, name=self._name)

    def _read(self, inputs, outputs, found):
        """Read the calls between tensors; `found` says by id of a layer its name and whether it is trained."""
        tensors, nodes, names = {}, {}, {name for name, _ in found.values()}
        calls = calls_before(keras.tree.flatten(inputs) + keras.tree.flatten(outputs))
        for keras_call in calls:
            operation = keras_call.operation
            if id(operation) not in nodes:
                if id(operation) in found:
                    name, trainable = found[id(operation)]
                else:  # A plain operation; one of a model inside can have the name of another.
                    name, trainable = _free(operation.name, names), True
                    names.add(name)
                nodes[id(operation)] = Node(type(operation), name, operation, trainable)
            node = nodes[id(operation)]
            call = Call(node, *_taken_apart(keras_call.arguments.args, keras_call.arguments.kwargs, tensors))
            call.outputs = [Tensor(node, tensor) for tensor in keras_call.output_tensors]
            tensors.update(zip(map(id, keras_call.output_tensors), call.outputs, strict=True))
            node.calls.append(call)
            self._calls.append(call)
        self._inputs = keras.tree.map_structure(lambda tensor: tensors[id(tensor)], inputs)
        self._end = Call(None, *_taken_apart((outputs,), {}, tensors))


def input_like(tensor: keras.KerasTensor | Tensor) -> keras.KerasTensor:
    """Return a new input of the shape, dtype and name of a tensor."""
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _call(layer, *args, **kwargs):
    return layer(*args, **kwargs)


def _free(name, names):
    return next(free for number in itertools.count() if (free := f"{name}_{number}" if number else name) not in names)


def _taken_apart(args, kwargs, tensors):
    """Return the graph's tensors among the arguments, and the function that puts values in their places."""
    if not kwargs and all(isinstance(argument, keras.KerasTensor) for argument in args):
        return [tensors[id(argument)] for argument in args], None
    leaves = keras.tree.flatten((args, kwargs))
    at = [i for i, leaf in enumerate(leaves) if isinstance(leaf, keras.KerasTensor)]

    def fill(values):
        filled = list(leaves)
        for i, value in zip(at, values, strict=True):
            filled[i] = value
        return keras.tree.pack_sequence_as((args, kwargs), filled)

    return [tensors[id(leaves[i])] for i in at], fill


def _replace(old: Tensor, new: Tensor, users: list[Call]) -> None:
    for user in list(users):
        user.inputs = [new if tensor is old else tensor for tensor in user.inputs]
        old.users.remove(user)
        new.users.append(user)


def call_leaves(model: keras.Model, inputs):
    """Call the layers of a model once more, and those of the models inside it, and return its outputs.

    Composites are opened within `keras_vit.layers.composite.opened`.
    """
    model = as_functional(model)
    values = dict(zip(map(id, model.inputs), keras.tree.flatten(inputs), strict=True))
    for call in calls_before(model.outputs):
        if not call.is_input:
            args, kwargs = call.arguments.fill_in(values)
            outputs = (
                call_leaves(call.operation, args[0]) if is_opened(call.operation) else call.operation(*args, **kwargs)
            )
            values.update(zip(map(id, call.output_tensors), keras.tree.flatten(outputs), strict=True))
    return keras.tree.map_structure(lambda tensor: values[id(tensor)], model.output)


@contextlib.contextmanager
def _recording_nothing(model):
    """Remove afterwards what the layers of a model have recorded of their calls meanwhile."""
    operations = list(operations_below(model))
    records = [record for each in operations for record in (each._inbound_nodes, each._outbound_nodes)]
    lengths = [len(record) for record in records]
    try:
        yield
    finally:
        for record, length in zip(records, lengths, strict=True):
            del record[length:]
