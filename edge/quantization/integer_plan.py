"""The plan of a model that computes in integers everywhere: the precision of each operator and the grid of each tensor.

It is computed from the model's integer form and the scheme alone, see `keras_vit.edge.quantization.integer_forms`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal

import keras
import numpy as np
from keras import ops

from keras_vit.edge.quantization.fake_quant import QuantizationScheme
from keras_vit.edge.quantization.integer_forms import class_of_function
from keras_vit.edge.quantization.integer_layers import AddConstant, MultiplyConstant, ReciprocalRoot
from keras_vit.edge.quantization.plan import WITH_KERNEL, Grid, Row
from keras_vit.edge.quantization.schemes import Scheme
from keras_vit.graph.reading import PERMUTATIONS, RESHAPES, SLICES, calls_before, consumers, inputs_of, producer
from keras_vit.graph.rebuilding import rebuild
from keras_vit.layers import LearnedTokens, MatMul


@dataclasses.dataclass(frozen=True)
class Leaf:
    """What a kind of layer or operation is in a file.

    Attributes:
        operator: Its TensorFlow Lite operator.
        grid: The grid of its output. "own" if it has one of its own; "moved" if all that it gives are numbers that it
            takes, or 0, which are on the grid already; "input" if it computes on the grid of its input, as a resizing
            does; "joined" if all its inputs have to be on its own grid.
        fuses: Whether the operator can have a ReLU at its end.
        limits: The range that the operator demands for its output in 8 and in 16 bits; None for any range.
    """

    operator: str
    grid: Literal["own", "moved", "input", "joined"] = "own"
    fuses: bool = False
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None

    @property
    def is_product(self) -> bool:
        """Whether it multiplies matrices."""
        return self.operator in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")


_UNIT = (0.0, 255 / 256), (-1.0, 32767 / 32768)  # Of probabilities. Only half of the 16 bits is used.
_SIGNED_UNIT = (-1.0, 127 / 128), (-1.0, 32767 / 32768)

LEAVES: dict[type, Leaf] = {
    keras.layers.InputLayer: Leaf("INPUT"),
    QuantizationScheme: Leaf("IDENTITY", "moved"),
    keras.layers.Dense: Leaf("FULLY_CONNECTED", fuses=True),
    keras.layers.Conv2D: Leaf("CONV_2D", fuses=True),
    keras.layers.DepthwiseConv2D: Leaf("DEPTHWISE_CONV_2D", fuses=True),
    MatMul: Leaf("BATCH_MATMUL"),
    LearnedTokens: Leaf("CONSTANT"),
    AddConstant: Leaf("ADD", fuses=True),
    MultiplyConstant: Leaf("MUL", fuses=True),
    ReciprocalRoot: Leaf("RSQRT"),
    **dict.fromkeys(RESHAPES, Leaf("RESHAPE", "moved")),
    **dict.fromkeys(PERMUTATIONS, Leaf("TRANSPOSE", "moved")),
    **dict.fromkeys(SLICES, Leaf("STRIDED_SLICE", "moved")),
    **{
        class_of_function(function): leaf
        for function, leaf in (
            (lambda x: ops.add(x, x), Leaf("ADD", fuses=True)),
            (lambda x: ops.subtract(x, x), Leaf("SUB", fuses=True)),
            (lambda x: ops.multiply(x, x), Leaf("MUL", fuses=True)),
            (lambda x: ops.maximum(x, x), Leaf("MAXIMUM", "joined")),
            (lambda x: ops.minimum(x, x), Leaf("MINIMUM", "joined")),
            (lambda x: ops.concatenate([x, x]), Leaf("CONCATENATION", "joined")),
            (ops.mean, Leaf("MEAN")),
            (ops.sum, Leaf("SUM")),
            (ops.max, Leaf("REDUCE_MAX", "moved")),
            (ops.exp, Leaf("EXP")),
            (ops.gelu, Leaf("GELU")),
            (ops.relu, Leaf("RELU")),
            (ops.relu6, Leaf("RELU6")),
            (ops.softmax, Leaf("SOFTMAX", limits=_UNIT)),
            (ops.sigmoid, Leaf("LOGISTIC", limits=_UNIT)),
            (ops.tanh, Leaf("TANH", limits=_SIGNED_UNIT)),
            (lambda x: ops.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))), Leaf("PAD", "moved")),
            (lambda x: ops.image.resize(x, (2, 2)), Leaf("RESIZE_BILINEAR", "input")),
            (lambda x: ops.max_pool(x, 2), Leaf("MAX_POOL_2D", "moved")),
            (lambda x: ops.average_pool(x, 2), Leaf("AVERAGE_POOL_2D", "input")),
        )
    },
}
_WHOLE_LAYER = Leaf("LAYER")  # It stays in float and is converted by itself.
_CLAMPS = ("RELU", "RELU6")
# Numbers up to this one that are added before a softmax are masks, which make a probability 0.
_MASK = -30.0
BITS = {"int8": 8, "int16": 16}


def leaf_of(operation) -> Leaf:
    """Return what a layer or operation of an integer form is in a file."""
    return LEAVES.get(type(operation), _WHOLE_LAYER)


@dataclasses.dataclass(frozen=True)
class _Mask:
    """What is known of scores that a mask is added to.

    Attributes:
        low: A number so far below all scores that are not masked that its probability is 0.
        high: The largest of these scores, with what is added to them.
        highest_score: The largest score before the addition.
    """

    low: float
    high: float
    highest_score: float


class IntegerPlan:
    """What each operator of an integer form computes in, and the grids of its tensors.

    A tensor is called by the name of the operation that gives it, and so is its grid.

    Args:
        form: A model returned by `integer_form`.
        scheme: How it is quantized.

    Attributes:
        rows: A `Row` for each operation, by its name. Its inputs are "" where it takes a tensor as it is, and its
            output is "" where it gives a tensor in float, or on the grid of what it takes. If a ReLU is fused into an
            operation, or a concatenation is its only user, then its output is the grid of that.
        grids: The `Grid` of each name that occurs in a row.
    """

    def __init__(self, form: keras.Model, scheme: Scheme):
        self._operations = {operation.name: operation for operation in form.operations}
        self._uses = consumers(form)
        self._leaves = {name: leaf_of(operation) for name, operation in self._operations.items()}
        self._types = {name: _type(scheme.for_layer(name), leaf) for name, leaf in self._leaves.items()}
        self._given: dict[str, tuple[str, str] | None] = {}  # The grid that a tensor is on, and its type.
        self.grids: dict[str, Grid] = {}
        self.rows = {name: self._row(name) for name in _in_order(form)}
        self._let_products_have_zero_in_the_middle()

    def fused(self, name: str) -> str | None:
        """Return the operator of the ReLU that is fused into an operation; None if none is."""
        users = self._uses[name]
        if not self._leaves[name].fuses or len(users) != 1 or users[0] is None:
            return None
        user = users[0].name
        is_fused = self._leaves[user].operator in _CLAMPS and self._types[user] == self._types[name] != "float32"
        return self._leaves[user].operator if is_fused else None

    def rounds(self, name: str) -> bool:
        """Return whether the output of an operation has to be rounded to its grid."""
        return self.rows[name].output != "" and self._leaves[name].grid != "joined" and self.fused(name) is None

    def on_grids(self, form: keras.Model, make: Callable, mark: Callable) -> keras.Model:
        """Return a copy of the integer form in which tensors are on their grids.

        Args:
            form: The model that the plan is for.
            make: From a layer to the layer that takes its place, not built, of the same name.
            mark: From (name of a grid, tensors) to these tensors on the grid.
        """
        on: dict[int, str] = {}  # By id of a tensor, the grid that it is on.
        marked: dict[tuple[int, str], keras.KerasTensor] = {}

        def call(layer, *args, **kwargs):
            row = self.rows[layer.name]
            wanted = iter(row.inputs)
            before = []

            def take(value):
                if not isinstance(value, keras.KerasTensor):
                    return value
                grid = next(wanted, "")
                if grid and on.get(id(value)) != grid:
                    key = id(value), grid
                    if key not in marked:
                        marked[key] = mark(grid, [value])[0]
                        on[id(marked[key])] = grid
                    value = marked[key]
                before.append(on.get(id(value), ""))
                return value

            args, kwargs = keras.tree.map_structure(take, (args, kwargs))
            output = layer(*args, **kwargs)
            if self.rounds(layer.name):
                output = mark(row.output, [output])[0]
            on[id(output)] = before[0] if leaf_of(layer).grid == "moved" else row.output
            return output

        return rebuild(form, make, call)

    def adjusted_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return calibrated ranges as the operators need them: those of masked scores and reciprocal roots are bounded.

        A masked score has to be only so far below all others that its probability is 0. The smallest number that a grid
        tells from 0 is one step, so the largest reciprocal root is that of one step.
        """
        ranges = dict(ranges)
        for name, mask in self._masks(ranges).items():
            ranges[self.rows[name].output] = mask.low, mask.high
        for name, step in self._steps_of_roots(ranges).items():
            output = self.rows[name].output
            if output in ranges:
                low, high = ranges[output]
                ranges[output] = low, min(high, step**-0.5)
        return ranges

    def prepare(self, quantized: keras.Model, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Raise the floor of each `ReciprocalRoot` to one step of the grid of its input, and masks as far as possible.

        A constant has one grid for its masks and its other numbers, so that of a smaller range is finer.
        """
        for name, mask in self._masks(ranges).items():
            constant = quantized.get_layer(name).constant
            values = ops.convert_to_numpy(constant)
            constant.assign(np.where(values > _MASK, values, np.maximum(values, mask.low - mask.highest_score)))
        for name, step in self._steps_of_roots(ranges).items():
            floor = quantized.get_layer(name).floor
            floor.assign(max(float(ops.convert_to_numpy(floor)), step))

    def _masks(self, ranges):
        """Return the `_Mask` of each operation that adds one, by the operation's name."""
        masks = {}
        for name, operation in self._operations.items():
            row = self.rows[name]
            if not isinstance(operation, AddConstant) or not row.output or not self._is_for_softmax(name):
                continue
            values = ops.convert_to_numpy(operation.constant)
            others = values[values > _MASK]
            if 0 < others.size < values.size:
                low, high = self.grids[row.inputs[0]].limits or ranges[row.inputs[0]]
                margin = (BITS[row.activations] + 1) * math.log(2)  # Less than half a step of a probability's grid.
                masks[name] = _Mask(low + float(others.min()) - margin, high + float(others.max()), high)
        return masks

    def _is_for_softmax(self, name):
        """Return whether a softmax takes the output of an operation, perhaps in another layout."""
        for user in self._uses[name]:
            leaf = None if user is None else self._leaves[user.name]
            # That of long rows starts with their maximum.
            if leaf is not None and leaf.operator in ("SOFTMAX", "REDUCE_MAX"):
                return True
            if leaf is not None and leaf.grid == "moved" and self._is_for_softmax(user.name):
                return True
        return False

    def _steps_of_roots(self, ranges):
        steps = {}
        for name, row in self.rows.items():
            if row.operator == "RSQRT" and row.output:
                grid = self.grids[row.inputs[0]]
                steps[name] = grid.step_and_zero(*(grid.limits or ranges[row.inputs[0]]))[0]
        return steps

    def _row(self, name):
        leaf, kind = self._leaves[name], self._types[name]
        before = [producer(tensor).name for tensor in inputs_of(self._operations[name])]
        if leaf.grid == "moved":
            self._given[name] = self._given[before[0]]
            if self._given[name] is None:
                return Row(leaf.operator)
            grid, kind = self._given[name]
            # An input layer is not called, so what takes an image puts it on its grid.
            is_image = self._leaves[before[0]].operator == "INPUT"
            return Row(leaf.operator, kind, inputs=(grid,) if is_image else ())
        if kind == "float32":
            self._given[name] = None
            return Row(leaf.operator)
        if leaf.grid == "joined":
            self._given[name] = self._grid(self._output(name), kind)
            return Row(leaf.operator, kind, None, (self._given[name][0],) * len(before), self._given[name][0])
        takes_none = leaf.operator in ("INPUT", "CONSTANT")
        inputs = tuple("" if takes_none else self._taken(each, kind) for each in before)
        if leaf.grid == "input":
            self._given[name] = (inputs[0], kind)
        else:
            limits = None
            if leaf.limits is not None:
                limits = leaf.limits[kind == "int16"]
            elif kind == "int8" and leaf.operator == "EXP":
                limits = self._limits_of_exponentials(name)
            self._given[name] = self._grid(self._output(name), kind, limits)
        if isinstance(self._operations[name], (AddConstant, MultiplyConstant)):
            kernel_bits = BITS[kind]
        else:
            kernel_bits = 8 if isinstance(self._operations[name], WITH_KERNEL) else None
        return Row(leaf.operator, kind, kernel_bits, inputs, self._given[name][0])

    def _grid(self, name, kind, limits=None):
        """Return the grid of a name and its type; make the grid if it is new."""
        if name not in self.grids:
            self.grids[name] = Grid(BITS[kind], symmetric=kind == "int16" and limits is None, limits=limits)
        return name, kind

    def _taken(self, name, kind):
        """Return the grid on which an operator of a type takes a tensor."""
        given = self._given[name]
        if given is None:
            return self._grid(name if self._is_free(name, kind) else f"{name}.{kind}", kind)[0]
        return given[0] if given[1] == kind else self._grid(f"{given[0]}.{kind}", kind)[0]

    def _is_free(self, name, kind):
        return name not in self.grids or self.grids[name].bits == BITS[kind]

    def _output(self, name):
        """Return the name of the grid of what an operator of a file gives, with the ReLU that is fused into it."""
        users = self._uses[name]
        if self.fused(name):
            return self._output(users[0].name)
        if len(users) != 1 or users[0] is None or self._types[users[0].name] != self._types[name]:
            return name
        is_joined = self._leaves[users[0].name].grid == "joined" and self._leaves[name].limits is None
        return self._output(users[0].name) if is_joined else name

    def _limits_of_exponentials(self, name):
        """Return the range (0, 1) for exponentials of what is never above 0, and give what they are of its range.

        A smaller exponential than half a step of the output's grid is 0, so the input's grid need not reach further.
        """
        (below,) = inputs_of(self._operations[name])
        difference = self._operations[producer(below).name]
        if self._leaves[difference.name].operator != "SUB":
            return None
        whole, part = inputs_of(difference)
        largest = producer(part)
        if self._leaves[largest.name].operator != "REDUCE_MAX" or producer(inputs_of(largest)[0]) is not producer(
            whole
        ):
            return None
        if self._given[difference.name] != (difference.name, "int8"):
            return None
        self.grids[difference.name] = dataclasses.replace(self.grids[difference.name], limits=(-math.log(510), 0.0))
        return 0.0, 1.0

    def _let_products_have_zero_in_the_middle(self):
        """Make the grids symmetric that XNNPACK takes only so: those of the second operand of a product."""
        for row in self.rows.values():
            if row.operator == "BATCH_MATMUL" and row.activations != "float32":
                grid = self.grids[row.inputs[1]]
                if grid.limits is None:
                    self.grids[row.inputs[1]] = dataclasses.replace(grid, symmetric=True)


def bits_of_layer(scheme: Scheme, layer: str) -> int | None:
    """Return the bits of all activations of a layer under a scheme; None if some compute in float."""
    scheme = scheme.for_layer(layer)
    return BITS[scheme.activations] if scheme.operators == "all" else None


def _type(scheme: Scheme, leaf: Leaf) -> str:
    """Return what an operator computes in under a scheme: "int8", "int16" or "float32"."""
    if leaf is _WHOLE_LAYER:
        return "float32"
    return scheme.activations if scheme.operators == "all" or leaf.is_product else "float32"


def _in_order(form: keras.Model) -> list[str]:
    """Return the names of all operations, each one after those that it takes from."""
    return list(dict.fromkeys(call.operation.name for call in calls_before(form.outputs)))
