"""The plan of a quantized model: what each operation computes in, and the grid that each tensor is on.

It follows from the flat model and the scheme alone. Calibration, the model that trains with the rounding, and the
writers of files all read it, so they cannot disagree.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import keras

from keras_vit.edge.quantization.fake_quant import QuantizationScheme
from keras_vit.edge.quantization.schemes import Scheme
from keras_vit.graph.reading import PERMUTATIONS, RESHAPES, SLICES, consumers, inputs_of, producer
from keras_vit.graph.rebuilding import rebuild
from keras_vit.layers import Fold, LearnedTokens, MatMul, TokenPooling, Unfold

PRODUCT = "PRODUCT"  # Stands for any operator that multiplies matrices.

# Layers with a kernel, which a scheme can store as integers.
WITH_KERNEL = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
# Products of matrices, which compute in int8 wherever they are.
PRODUCTS = (*WITH_KERNEL, MatMul)

# These compute in int8 only where all their inputs and outputs are int8 anyway, as between two convolutions. Elsewhere,
# converting to int8 and back would cost more than it saves. A residual stream that norms read stays in float.
_BETWEEN = {
    keras.layers.Add: "ADD",
    keras.layers.Multiply: "MUL",
    keras.layers.Concatenate: "CONCATENATION",
    keras.layers.GlobalAveragePooling2D: "MEAN",
}

# TensorFlow Lite fuses a ReLU into these.
_WITH_CLAMP = (*WITH_KERNEL, keras.layers.Add, keras.layers.Multiply)
_CLAMPS = (keras.activations.relu, keras.activations.relu6)

# These only move values, so their output is on the int8 grid if their input is.
_SAME_SIZE = (*RESHAPES, *PERMUTATIONS, keras.layers.ZeroPadding2D, Fold, Unfold, QuantizationScheme)
_SMALLER = (*SLICES, TokenPooling)

# With fewer multiplications per activation, quantizing it for each image takes longer than int8 saves (x86-64).
_LEAST_USES = 64


# The largest bias in steps of its product: half of the largest int32, because the runtime adds products to it.
LARGEST_BIAS = 2.0**30


@dataclasses.dataclass(frozen=True)
class Grid:
    """The grid of integers that a tensor is on.

    Attributes:
        bits: Number of bits of an integer.
        symmetric: Whether zero is in the middle of the range.
        limits: The smallest and the largest value, if they are fixed; None if they come from data.
    """

    bits: int = 8
    symmetric: bool = True
    limits: tuple[float, float] | None = None

    def step_and_zero(self, low: float, high: float) -> tuple[float, int]:
        """Return the step of the grid for a range and the integer for 0, as TensorFlow's fake-quant operators do."""
        if self.symmetric:
            return max(-low, high) / (2 ** (self.bits - 1) - 1), 0
        smallest, largest = -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1
        step = (high - low) / (largest - smallest)
        return step, int(min(max(round(smallest - low / step), smallest), largest))


# The grid that TensorFlow Lite demands for the output of a sigmoid: 256 values from 0 in steps of 1/256.
SIGMOID_GRID = Grid(symmetric=False, limits=(0.0, 255 / 256))


@dataclasses.dataclass(frozen=True)
class Row:
    """What one operation of a flat model computes.

    Attributes:
        operator: Its TensorFlow Lite operator, or `PRODUCT` for any product of matrices; None for an operation that
            computes in float under every scheme.
        activations: "int8" if it takes and gives int8 values, "dynamic_int8" if the runtime quantizes what it takes, or
            "float32".
        kernel_bits: Bits of its kernel or constant; None if it has none, or one of floats.
        inputs: For "int8", the name of the grid of each input; "" for one that it takes as it is.
        output: For "int8", the name of the grid of the output; otherwise "".
    """

    operator: str | None
    activations: str = "float32"
    kernel_bits: int | None = None
    inputs: tuple[str, ...] = ()
    output: str = ""


def is_layout(operation) -> bool:
    """Return whether a layer or operation only moves values, or drops some, or adds zeros."""
    return _keeps_values(operation) or type(operation) in _SMALLER


def _keeps_values(operation) -> bool:
    return type(operation) in _SAME_SIZE or getattr(type(operation), "moves_pixels", False)


def operator_of(operation) -> str | None:
    """Return the TensorFlow Lite operator of an operation that may compute in int8; None for other operations.

    All products of matrices give `PRODUCT`.
    """
    if isinstance(operation, PRODUCTS):
        return PRODUCT
    if _activation_of(operation) is keras.activations.sigmoid:
        return "LOGISTIC"
    return _BETWEEN.get(type(operation))


def is_clamp(operation) -> bool:
    """Return whether a layer is a ReLU or ReLU6."""
    return _activation_of(operation) in _CLAMPS


def _activation_of(operation):
    """Return the function of a layer that is nothing but an activation; None for other layers."""
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return {None: keras.activations.relu, 6.0: keras.activations.relu6}.get(operation.max_value) if plain else None
    return operation.activation if isinstance(operation, keras.layers.Activation) else None


class Plan:
    """What each operation of a flat model computes under a scheme, and the grids of its tensors.

    A tensor is called by the name of the operation that gives it, and so is its grid.

    Args:
        flat: A model returned by `keras_vit.flatten`. Each of its operations gives one tensor in each call. One that is
            called several times has the same grids in all calls.
        scheme: How it is quantized.

    Attributes:
        rows: A `Row` for each operation, by its name. A product with an operand that is the same for every image
            computes in float: the file would store that operand as a constant, and the CPU delegate refuses that.
        grids: The `Grid` of each name that occurs in a row.

    Raises:
        ValueError: An operation that is called several times would need different grids.
    """

    def __init__(self, flat: keras.Model, scheme: Scheme):
        self._uses = consumers(flat)
        self._operations = {operation.name: operation for operation in flat.operations}
        self._clamps = {name for name, operation in self._operations.items() if self._is_fused(operation)}
        chosen = {name: scheme.for_layer(name) for name in self._operations}
        constant = _constant(flat)
        self._int8 = {
            name
            for name, operation in self._operations.items()
            if chosen[name].activations == "int8"
            and operator_of(operation) is not None
            and not any(producer(tensor).name in constant for tensor in inputs_of(operation))
        }
        # Without one of them, its neighbors may no longer be worth computing in int8.
        while drop := {name for name in self._int8 if not self._belongs(self._operations[name])}:
            self._int8 -= drop
        self._clamps = {name for name in self._clamps if self._before(name).name in self._int8}
        # Layout operations that move int8 values: all their users are int8.
        self._early = {
            name
            for name, operation in self._operations.items()
            if _keeps_values(operation) and all(map(self._ends_in_int8, self._uses[name]))
        }
        self._shared: dict[str, str] = {}  # The grid of a tensor in float, if it is not its own.
        for name in self._operations:
            if self.takes_grid(name):
                self._share_grids(name)
        self.rows = {name: self._row(name, chosen[name]) for name in self._operations}
        # The CPU delegate multiplies two activations only if the zero point of the right-hand one is 0.
        right = {row.inputs[1] for name, row in self.rows.items() if row.inputs and self._is_matmul(name)}
        self.grids = {
            name: SIGMOID_GRID
            if name in self._int8 and self._is_sigmoid(name)
            else Grid(symmetric=scheme.symmetric or name in right)
            for row in self.rows.values()
            for name in (*row.inputs, row.output)
            if name
        }

    def on_grids(self, flat: keras.Model, make: Callable, mark: Callable) -> keras.Model:
        """Return a copy of the flat model in which tensors are on their grids.

        Args:
            flat: The model that the plan is for.
            make: From a layer to the layer that takes its place, not built, of the same name.
            mark: From (name of a grid, tensors) to these tensors on the grid.
        """
        names: dict[int, str] = {}  # By id of a tensor, the name of the operation of the flat model that gives it.
        marked: dict[int, keras.KerasTensor] = {}  # By id of a tensor, the same tensor on a grid.

        def put_on_grid(tensor):
            name = names.get(id(tensor), producer(tensor).name)
            if self.given_on(name) is not None:
                return tensor
            if id(tensor) not in marked:
                marked[id(tensor)] = mark(self.taken_on(name), [tensor])[0]
            return marked[id(tensor)]

        def call(layer, *args, **kwargs):
            name = layer.name
            if self.joins(name):
                args = (mark(name, args[0]), *args[1:])
            elif self.takes_grid(name):
                args = keras.tree.map_structure(put_on_grid, args)
            output = layer(*args, **kwargs)
            if self.gives_grid(name):
                output = mark(name, [output])[0]
                names[id(output)] = name
            return output

        return rebuild(flat, make, call)

    def adjusted_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return calibrated ranges as the operators need them: here, any range suits them."""
        return dict(ranges)

    def prepare(self, quantized: keras.Model, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Set what the layers of a quantized model need to know of ranges: here, nothing."""

    def takes_grid(self, name: str) -> bool:
        """Return whether an operation, other than a concatenation, takes its inputs on their grids."""
        return name in self._early or (name in self._int8 and not self.joins(name))

    def joins(self, name: str) -> bool:
        """Return whether an operation is a concatenation that puts all its inputs on its own grid."""
        return name in self._int8 and isinstance(self._operations[name], keras.layers.Concatenate)

    def gives_grid(self, name: str) -> bool:
        """Return whether an operation, or the ReLU fused into it, gives its output on a grid of its own."""
        users = self._uses[name]
        if len(users) == 1 and users[0] is not None:
            if users[0].name in self._clamps:
                return False  # The fused operation does not give this tensor.
            if self.joins(users[0].name):
                # All inputs of a concatenation are on its grid, except that the grid of a sigmoid is fixed.
                return name in self._int8 and self._is_sigmoid(name)
        return (name in self._int8 and not self.joins(name)) or name in self._clamps

    @functools.cache  # noqa: B019 - a plan is short-lived.
    def given_on(self, name: str) -> str | None:
        """Return the grid that the output of an operation is on; None if it is in float."""
        if self.gives_grid(name) or self.joins(name):
            return name
        if not is_layout(self._operations[name]):
            return None
        before = producer(inputs_of(self._operations[name])[0]).name
        return self.taken_on(before) if name in self._early else self.given_on(before)

    def taken_on(self, name: str) -> str:
        """Return the grid on which int8 operations take the output of an operation.

        If the output is in float, it is its own, or that of another call of the operation that takes it.
        """
        grid = self.given_on(name) or name
        while grid in self._shared:
            grid = self._shared[grid]
        return grid

    def _share_grids(self, name):
        """Let an operation take its input in all its calls on one grid."""
        for tensors in zip(*(call.input_tensors for call in self._operations[name]._inbound_nodes), strict=True):
            before = list(dict.fromkeys(producer(tensor).name for tensor in tensors))
            if len(before) == 1:
                continue
            grids = [self.taken_on(each) for each in before]
            for each, grid in zip(before[1:], grids[1:], strict=True):
                if grid == each and self.given_on(each) is None:
                    self._shared[each] = grids[0]
                elif grid != grids[0]:
                    raise ValueError(
                        f"The layer {name!r} is called {len(tensors)} times, on tensors with different ranges: those "
                        f"of {before[0]!r} and {each!r}. Call a layer of its own in each place, or keep it in float by "
                        f"overrides={{{name!r}: 'float32'}}."
                    )
            type(self).given_on.cache_clear()  # Layout operations pass on what has changed.

    def _row(self, name, scheme):
        operation = self._operations[name]
        operator = operator_of(operation)
        has_kernel = isinstance(operation, WITH_KERNEL)
        if name in self._int8:
            bits = scheme.kernel_bits if has_kernel else None
        elif not has_kernel or scheme.activations == "int8":
            return Row(operator)
        elif scheme.activations == "float32":
            return Row(operator, "float32", scheme.kernel_bits)
        elif not isinstance(operation, keras.layers.DepthwiseConv2D) and _uses(operation) >= _LEAST_USES:
            # XNNPACK has no convolution with kernels of four bits.
            is_dense = isinstance(operation, keras.layers.Dense)
            return Row(operator, "dynamic_int8", scheme.kernel_bits if is_dense else 8)
        else:  # The runtime would be slower, or cannot do it.
            return Row(operator, "float32", None if scheme.kernel_bits == 8 else 8)
        before = [producer(tensor).name for tensor in operation._inbound_nodes[0].input_tensors]
        inputs = [name] * len(before) if self.joins(name) else [self.taken_on(each) for each in before]
        return Row(operator, "int8", bits, tuple(inputs), name if self.joins(name) else self._output(name))

    def _output(self, name):
        """Return the grid of what the operator of a file gives, with the ReLU that is fused into it."""
        users = self._uses[name]
        if len(users) == 1 and users[0] is not None:
            if users[0].name in self._clamps:
                return self._output(users[0].name)
            if self.joins(users[0].name) and not self._is_sigmoid(name):
                return users[0].name
        return name

    def _is_sigmoid(self, name):
        return operator_of(self._operations[name]) == "LOGISTIC"

    def _is_matmul(self, name):
        return isinstance(self._operations[name], MatMul)

    def _before(self, name):
        return producer(inputs_of(self._operations[name])[0])

    def _is_fused(self, operation):
        if not is_clamp(operation):
            return False
        before = self._before(operation.name)
        linear = getattr(before, "activation", keras.activations.linear) is keras.activations.linear
        return isinstance(before, _WITH_CLAMP) and linear and len(self._uses[before.name]) == 1

    def _belongs(self, operation):
        return operator_of(operation) == PRODUCT or (
            all(map(self._starts_in_int8, inputs_of(operation)))
            and all(map(self._ends_in_int8, self._uses[operation.name]))
        )

    def _starts_in_int8(self, tensor):
        operation = producer(tensor)
        while is_layout(operation) or operation.name in self._clamps:
            operation = producer(inputs_of(operation)[0])
        return operation.name in self._int8

    def _ends_in_int8(self, operation):
        if operation is None:
            return False
        if is_layout(operation) or operation.name in self._clamps:
            return all(map(self._ends_in_int8, self._uses[operation.name]))
        return operation.name in self._int8


def _constant(flat):
    """Return the names of the operations that depend on learned tokens only, not on the image."""
    constant = set()
    for operation in flat.operations:  # In an order in which inputs come before their users.
        before = [producer(tensor).name for tensor in inputs_of(operation)]
        if isinstance(operation, LearnedTokens) or (before and constant.issuperset(before)):
            constant.add(operation.name)
    return constant


def _uses(layer) -> float:
    """Return the number of multiplications in a dense layer or convolution per value of its input."""
    given = inputs_of(layer)[0]
    # The kernel is applied at every position of the output.
    positions = math.prod(layer.output.shape[1:-1])
    return positions * math.prod(layer.kernel.shape) / math.prod(given.shape[1:])
