"""What the layers of a flat model take and give, to be found again in a converted file."""

from __future__ import annotations

import dataclasses

import keras

from keras_vit.edge.inputs import output_names
from keras_vit.edge.quantization.plan import is_clamp, is_layout
from keras_vit.graph.fusion import IDENTITIES
from keras_vit.graph.reading import consumers, inputs_of, producer
from keras_vit.layers import Preprocessing


@dataclasses.dataclass(frozen=True)
class Neighbors:
    """What gives a layer its inputs, and what takes its output. Layers that only move values are left out.

    Attributes:
        calls: How many times the layer is called.
        sources: For each input, the names of the layers that give it in these calls; None stands for an input of the
            model.
        followers: The names of the layers that compute with the output, or with that of a ReLU behind it.
    """

    calls: int
    sources: list[set[str | None]]
    followers: set[str]


def neighbors_of(flat: keras.Model) -> dict[str, Neighbors]:
    """Return the neighbors of each layer of a flat model, by the layer's name."""
    uses = consumers(flat)
    found = {}
    for layer in flat.layers:
        users = uses[layer.name]
        if len(users) == 1 and users[0] is not None and is_clamp(users[0]):
            users = uses[users[0].name]
        calls = layer._inbound_nodes
        found[layer.name] = Neighbors(
            len(calls),
            [
                set().union(*(_sources_of(tensor) for tensor in tensors))
                for tensors in zip(*(call.input_tensors for call in calls), strict=True)
            ],
            {user.name for user in users if user is not None and not is_layout(user)},
        )
    return found


def output_layers(flat: keras.Model) -> dict[str, str]:
    """Return the layer that computes each output of a flat model, by the output's name in a file's signature.

    A ReLU is part of the layer before it.
    """
    layers = {}
    for name, tensor in zip(output_names(flat), flat.outputs, strict=True):
        operation = producer(tensor)
        while is_layout(operation) or is_clamp(operation):
            operation = producer(inputs_of(operation)[0])
        layers[name] = operation.name
    return layers


def _sources_of(tensor) -> set[str | None]:
    """Return the layer that computes a tensor, and the layers in between that move its values by several operators."""
    moves: set[str | None] = set()
    operation = producer(tensor)
    # An identity that `keras_vit.fuse` left is there to give floats for integers.
    while (
        is_layout(operation)
        or isinstance(operation, IDENTITIES)
        or (isinstance(operation, Preprocessing) and not operation.normalize)
    ):
        if getattr(type(operation), "moves_pixels", False):
            moves.add(operation.name)
        operation = producer(inputs_of(operation)[0])
    return moves | {None if isinstance(operation, keras.layers.InputLayer) else operation.name}
