"""Choosing how values are stored, so that few transposes are left.

Values that flexible operations connect form a region, and a region has one layout. Regions meet at fixed operations,
such as convolutions, and where a model reshapes or transposes. The search starts with every value stored as in Keras
and gives one region after the other the layout that costs least, until nothing improves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_vit.edge.onnx.layouts import Layout, layout_like, plain
from keras_vit.edge.onnx.operations import SMALL, Form
from keras_vit.edge.onnx.program import Operation, Program, Tensor, Value
from keras_vit.edge.onnx.rearrangement import Rearrangement, chain, identity, inverse

# The search has never needed more than four rounds.
_MAX_ROUNDS = 10
# A value, whether it has just been computed, and what is done to it to store it or to use it.
_Move = tuple[Value, bool, tuple[Rearrangement, ...]]


class Plan:
    """How the values of a program are stored and its operations computed.

    Args:
        program: The program.
    """

    def __init__(self, program: Program):
        self._program = program
        self._regions = _regions(program)
        self._layouts: dict[_Region, Layout] = {
            region: plain(len(region.values[0].shape)) for region in self._regions.values()
        }
        for _ in range(_MAX_ROUNDS):
            if not any([self._improve(region) for region in self._layouts]):
                break

    def stored(self, value: Value) -> Rearrangement:
        """Return how a value is stored."""
        form = self._layouts[self._regions[value]].of(value.shape)
        assert form is not None  # Only layouts that fit are chosen.
        return form

    def form(self, operation: Operation) -> Form:
        """Return how an operation is computed."""
        layout = self._layouts[self._regions[operation.output]]
        return min(operation.kind.forms(operation, layout), key=lambda form: self._cost(self._moves(operation, form)))

    def steps(self, tensor: Tensor, form: Rearrangement) -> list[Rearrangement]:
        """Return what has to be done to a stored value to give a tensor in some form."""
        steps = chain((inverse(self.stored(tensor.value)), *tensor.views, form))
        return [] if len(steps) == 1 and steps[0].is_identity else steps

    def after(self, operation: Operation, form: Form) -> list[Rearrangement]:
        """Return what has to be done to what an operation gives in some form, to store it."""
        return chain((inverse(form.output), self.stored(operation.output)))

    def _improve(self, region: _Region) -> bool:
        """Give a region the best layout. Return whether it changed."""
        before = self._layouts[region]
        best, least = before, self._region_cost(region)
        for layout in self._candidates(region):
            self._layouts[region] = layout
            cost = self._region_cost(region)
            if cost < least - SMALL / 100:
                best, least = layout, cost
        self._layouts[region] = best
        return best != before

    def _candidates(self, region):
        """Return the layouts that would spare some rearrangement at the border of a region."""
        found: dict[Layout, None] = {}

        def add(steps):
            layout = layout_like(steps[0]) if len(steps) == 1 else None
            if layout is not None and all(layout.of(value.shape) for value in region.values):
                found[layout] = None

        add([identity(region.values[0].shape)])
        for operation in region.operations:
            own = self._regions[operation.output] is region
            if own:
                for form in operation.kind.candidates(operation):
                    add([form])
            layout = self._layouts[self._regions[operation.output]]
            for form in operation.kind.forms(operation, layout):
                if own and not operation.kind.linked(operation):
                    add([form.output])
                for tensor, taken in zip(operation.inputs, form.inputs, strict=True):
                    if tensor.value.constant is not None:
                        continue
                    if self._regions[tensor.value] is region:
                        add(chain((*tensor.views, taken)))
                    elif own and tensor.shape == operation.output.shape:
                        # As the other region stores it, seen from here.
                        add([inverse(step) for step in chain((inverse(self.stored(tensor.value)), *tensor.views))])
        return found

    def _region_cost(self, region) -> float:
        moves: dict[_Move, None] = {}
        total = 0.0
        for operation in region.operations:
            layout = self._layouts[self._regions[operation.output]]
            ways = [
                (self._cost(moved) + form.cost, form.cost, moved)
                for form in operation.kind.forms(operation, layout)
                for moved in [self._moves(operation, form)]
            ]
            if not ways:
                return math.inf
            _, cost, moved = min(ways, key=lambda way: way[0])
            total += cost
            moves.update(dict.fromkeys(moved))
        for value in self._program.inputs.values():
            if self._regions[value] is region:
                moves[value, True, (self.stored(value),)] = None
        for tensor in self._program.outputs.values():
            if self._regions.get(tensor.value) is region:
                moves[tensor.value, False, tuple(self.steps(tensor, identity(tensor.shape)))] = None
        return total + self._cost(moves)

    def _moves(self, operation, form) -> list[_Move]:
        """Return what has to be moved to compute an operation in a form, and to store its output."""
        moves = [
            (tensor.value, False, tuple(self.steps(tensor, taken)))
            for tensor, taken in zip(operation.inputs, form.inputs, strict=True)
            if tensor.value.constant is None
        ]
        return [*moves, (operation.output, True, tuple(self.after(operation, form)))]

    @staticmethod
    def _cost(moves) -> float:
        return sum(_step_cost(step) for _, _, steps in moves for step in steps)


def _step_cost(step: Rearrangement) -> float:
    if step.is_identity:
        return 0.0
    # The smaller one of two transposes is preferred.
    return SMALL if step.is_reshape else 1 + 1e-9 * math.prod(step.source)


@dataclass(eq=False)
class _Region:
    """Values that are stored alike.

    Attributes:
        values: The values.
        operations: The operations that take or give one of them.
    """

    values: list[Value]
    operations: list[Operation]


def _regions(program: Program) -> dict[Value, _Region]:
    """Return the region of each value that is not a constant."""
    leader: dict[Value, Value] = {value: value for value in program.inputs.values()}

    def find(value):
        while leader[value] is not value:
            leader[value] = value = leader[leader[value]]
        return value

    for operation in program.operations:
        leader[operation.output] = operation.output
        for index in operation.kind.linked(operation):
            leader[find(operation.inputs[index].value)] = find(operation.output)
    regions: dict[Value, _Region] = {}
    for value in leader:
        regions.setdefault(find(value), _Region([], [])).values.append(value)
    found = {value: regions[find(value)] for value in leader}
    for operation in program.operations:
        touched = {found[tensor.value] for tensor in operation.inputs if tensor.value.constant is None}
        for region in touched | {found[operation.output]}:
            region.operations.append(operation)
    return found
