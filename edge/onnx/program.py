"""A model as a list of operations on channels-last values, before anything is decided about how values are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.edge.onnx.rearrangement import Rearrangement, Shape, chain

if TYPE_CHECKING:
    from keras_vit.edge.onnx.operations import Kind


@dataclass(eq=False)
class Value:
    """What an operation computes, an input of the model, or a constant.

    Attributes:
        shape: Its shape, as in Keras with channels last.
        layer: The name of the layer that it comes from.
        operation: The operation that computes it; None for an input or a constant.
        constant: The array of a constant.
        full: Whether it is float32 even in a file whose other values are float16.
    """

    shape: Shape
    layer: str
    operation: Operation | None = None
    constant: np.ndarray | None = None
    full: bool = False


@dataclass(frozen=True)
class Tensor:
    """A value as an operation takes it: after some reshapes and transposes.

    Attributes:
        value: The value.
        views: What is done to it, one after the other; empty if it is taken as it is.
    """

    value: Value
    views: tuple[Rearrangement, ...] = ()

    @property
    def shape(self) -> Shape:
        """The shape of the tensor, with a fixed batch size."""
        return self.views[-1].target if self.views else self.value.shape

    @property
    def constant(self) -> np.ndarray | None:
        """The array, if it is a constant."""
        array = self.value.constant
        if array is not None:
            for view in self.views:
                array = view(array)
        return array

    def viewed(self, view: Rearrangement) -> Tensor:
        """Return the tensor after one more rearrangement."""
        steps = chain((*self.views, view))
        return Tensor(self.value, () if len(steps) == 1 and steps[0].is_identity else tuple(steps))

    def viewed_as(self, other: Tensor) -> Tensor:
        """Return the tensor after the rearrangements of another one."""
        viewed = self
        for view in other.views:
            viewed = viewed.viewed(view)
        return viewed


@dataclass(eq=False)
class Operation:
    """One operation.

    Attributes:
        kind: What it computes.
        inputs: What it takes.
        output: What it gives.
        layer: The name of the layer that it belongs to.
        full: Whether it computes in float32 even in a float16 file.
    """

    kind: Kind
    inputs: list[Tensor]
    output: Value
    layer: str
    full: bool = False


@dataclass
class Program:
    """A model as operations, each one after those that it takes from.

    Attributes:
        name: The name of the model.
        inputs: Its inputs by name.
        outputs: Its outputs by name.
        operations: Its operations.
    """

    name: str
    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def users(self) -> dict[Value, list[Operation]]:
        """Return the operations that take each value."""
        found: dict[Value, list[Operation]] = {}
        for operation in self.operations:
            for value in dict.fromkeys(tensor.value for tensor in operation.inputs):
                found.setdefault(value, []).append(operation)
        return found

    def remove_unused(self) -> None:
        """Remove the operations that no output depends on."""
        needed = {tensor.value for tensor in self.outputs.values()}
        kept: list[Operation] = []
        for operation in reversed(self.operations):
            if operation.output in needed:
                kept.append(operation)
                needed.update(tensor.value for tensor in operation.inputs)
        self.operations = kept[::-1]


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Return the shape that arrays of these shapes are broadcast to."""
    return tuple(int(size) for size in np.broadcast_shapes(*shapes))
