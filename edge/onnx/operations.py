"""The kinds of operations, how each may be stored, and the ONNX nodes that it becomes.

Most kinds are *flexible*: they can be computed in any layout that keeps the axes they work along. The others are
*fixed*: they need their inputs and give their output in a certain form, such as a convolution with channels first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vit.edge.onnx.layouts import Layout
from keras_vit.edge.onnx.program import Operation, Tensor
from keras_vit.edge.onnx.rearrangement import Rearrangement, Shape, compose, identity, reshape, swap_last, transpose

if TYPE_CHECKING:
    import onnx_ir as ir

    from keras_vit.edge.onnx.emission import Emitter

# The cost of a node that moves no data, where a transpose costs 1.
SMALL = 0.01


@dataclass(frozen=True)
class Form:
    """One way to compute an operation.

    Attributes:
        inputs: How it takes each input, from the input's shape.
        output: How it gives its output, from the output's shape.
        cost: What it costs beside the rearrangements around it.
        choice: What `emit` has to know: the layout of a flexible kind, and for a `MatMul` what is transposed.
    """

    inputs: tuple[Rearrangement, ...]
    output: Rearrangement
    cost: float = 0.0
    choice: Any = None


class Kind:
    """What an operation computes."""

    def linked(self, operation: Operation) -> list[int]:
        """Return the inputs that are stored like the output; none for a fixed kind."""
        return []

    def forms(self, operation: Operation, layout: Layout) -> list[Form]:
        """Return the ways to compute the operation; none if it cannot be computed in this layout of its output.

        A fixed kind has the same ways for every layout.
        """
        raise NotImplementedError

    def candidates(self, operation: Operation) -> list[Rearrangement]:
        """Return forms of the output that would suit the operation."""
        return []

    def emit(self, emitter: Emitter, operation: Operation, form: Form, inputs: list[ir.Value]) -> ir.Value:
        """Add the ONNX nodes and return what they give, in the form's shape."""
        raise NotImplementedError


class Flexible(Kind):
    """A kind that can be computed in every layout that `fits`."""

    def linked(self, operation):
        rank = len(operation.output.shape)
        return [
            index
            for index, tensor in enumerate(operation.inputs)
            if not tensor.views and tensor.value.constant is None and len(tensor.shape) == rank
        ]

    def forms(self, operation, layout):
        output = layout.of(operation.output.shape)
        inputs = [layout.of(tensor.shape) for tensor in operation.inputs]
        if output is None or None in inputs or not self.fits(operation, layout):
            return []
        return [Form(tuple(inputs), output, self.cost(operation, layout), layout)]

    def fits(self, operation: Operation, layout: Layout) -> bool:
        """Whether it can be computed in a layout that all its inputs and its output can be stored in."""
        return True

    def cost(self, operation: Operation, layout: Layout) -> float:
        """Return what it costs in a layout beside the rearrangements around it."""
        return 0.0


@dataclass
class Elementwise(Flexible):
    """An ONNX operator that works element by element, with broadcasting."""

    op_type: str
    attributes: dict = field(default_factory=dict)

    def forms(self, operation, layout):
        output = layout.of(operation.output.shape)
        if output is None:
            return []
        inputs = []
        for tensor in operation.inputs:
            form = _broadcast_form(tensor, operation.output.shape, layout)
            if form is None:
                return []
            inputs.append(form)
        return [Form(tuple(inputs), output, choice=layout)]

    def emit(self, emitter, operation, form, inputs):
        return emitter.node(self.op_type, inputs, form.output.target, self.attributes)


@dataclass
class Quantize(Flexible):
    """Round to an int8 grid, with one scale for all values: QuantizeLinear, then DequantizeLinear.

    Attributes:
        step: The step of the grid.
        number: Which one it is of several roundings of the same value, see `round_for_each_user`.
    """

    step: float
    number: int = 0

    def emit(self, emitter, operation, form, inputs):
        grid, shape = emitter.grid(self.step), form.output.target
        # The attribute has no meaning where one scale is for all values. It keeps onnxruntime from merging roundings.
        axes = [1, *(axis for axis in range(-len(shape), len(shape)) if axis != 1)]
        axis = {"axis": axes[min(self.number, len(axes) - 1)]} if self.number else {}
        rounded = emitter.node("QuantizeLinear", [*inputs, *grid], shape, axis, dtype="int8")
        return emitter.node("DequantizeLinear", [rounded, *grid], shape, axis)


class Copy(Flexible):
    """Give the input as it is. It makes a value of a rearranged one."""

    def emit(self, emitter, operation, form, inputs):
        return inputs[0]


@dataclass
class AlongAxis(Flexible):
    """An ONNX operator with the attribute `axis`: Softmax, LogSoftmax or Concat."""

    op_type: str
    axis: int

    def fits(self, operation, layout):
        return all(layout.place(self.axis, each.shape) is not None for each in (*operation.inputs, operation.output))

    def emit(self, emitter, operation, form, inputs):
        axis = form.choice.place(self.axis, operation.output.shape)
        return emitter.node(self.op_type, inputs, form.output.target, {"axis": axis})


@dataclass
class Slice(Flexible):
    """Elements `start` to `stop` (exclusive) of an axis, in steps."""

    axis: int
    start: int
    stop: int
    step: int = 1

    def fits(self, operation, layout):
        return layout.place(self.axis, operation.inputs[0].shape) is not None

    def emit(self, emitter, operation, form, inputs):
        place = form.choice.place(self.axis, operation.inputs[0].shape)
        numbers = [emitter.integers([number]) for number in (self.start, self.stop, place, self.step)]
        return emitter.node("Slice", [*inputs, *numbers], form.output.target)


@dataclass
class Pad(Flexible):
    """Zeros before and after along each axis."""

    pads: tuple[tuple[int, int], ...]

    def fits(self, operation, layout):
        shape = operation.inputs[0].shape
        return all(layout.place(axis, shape) is not None for axis, pad in enumerate(self.pads) if any(pad))

    def emit(self, emitter, operation, form, inputs):
        before, after = ([0] * len(form.output.target) for _ in range(2))
        for axis, pad in enumerate(self.pads):
            if any(pad):
                place = form.choice.place(axis, operation.inputs[0].shape)
                before[place], after[place] = pad
        return emitter.node("Pad", [*inputs, emitter.integers(before + after)], form.output.target)


@dataclass
class Reduce(Flexible):
    """A mean, sum or maximum over some axes, which stay with size 1."""

    op_type: str
    axes: Shape

    def fits(self, operation, layout):
        return layout.places(self.axes, operation.inputs[0].shape) is not None

    def emit(self, emitter, operation, form, inputs):
        places = form.choice.places(self.axes, operation.inputs[0].shape)
        target = form.output.target
        pooling = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}.get(self.op_type)
        if pooling and len(target) == 4 and places == [2, 3]:
            return emitter.node(pooling, inputs, target)
        if self.op_type == "ReduceSum" or emitter.opset >= 18:
            return emitter.node(self.op_type, [*inputs, emitter.integers(places)], target, {"keepdims": 1})
        return emitter.node(self.op_type, inputs, target, {"axes": places, "keepdims": 1})


@dataclass
class LayerNorm(Flexible):
    """Normalization over the last axis, then a factor and a term for each of its elements."""

    scale: np.ndarray
    shift: np.ndarray | None
    epsilon: float

    def fits(self, operation, layout):
        shape = operation.output.shape
        return layout.place(len(shape) - 1, shape) == len(layout.groups) - 1

    def emit(self, emitter, operation, form, inputs):
        weights = [emitter.floats(array, full=True) for array in (self.scale, self.shift) if array is not None]
        attributes = {"axis": -1, "epsilon": self.epsilon}
        return emitter.node("LayerNormalization", [*inputs, *weights], form.output.target, attributes, dtype="float32")


@dataclass
class ImageNorm(Flexible):
    """Normalization over all axes but the first."""

    epsilon: float

    def fits(self, operation, layout):
        shape = operation.output.shape
        return shape[0] == 1 or layout.place(0, shape) == 0

    def emit(self, emitter, operation, form, inputs):
        shape = operation.output.shape
        one_channel, stored = (shape[0], 1, math.prod(shape[1:])), form.output.target
        one, zero = (emitter.floats(np.full((1,), number, np.float32), full=True) for number in (1, 0))
        flat = emitter.move(inputs[0], reshape(stored, one_channel))
        attributes = {"epsilon": self.epsilon}
        normalized = emitter.node("InstanceNormalization", [flat, one, zero], one_channel, attributes, dtype="float32")
        return emitter.move(normalized, reshape(one_channel, stored))


@dataclass
class Weights:
    """The kernel of a dense layer or convolution.

    Attributes:
        kernel: The array, with output channels last.
        bias: One number for each output channel, or None.
        steps: The step of the int8 grid of each output channel, for a kernel that is stored in int8; or None.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None
    steps: np.ndarray | None = None

    def emit(self, emitter: Emitter, axes: Sequence[int]) -> ir.Value:
        """Return the kernel with its axes in another order."""
        channels = list(axes).index(self.kernel.ndim - 1)
        if self.steps is None:
            return emitter.floats(self.kernel.transpose(axes))
        rounded = np.clip(np.rint(self.kernel / self.steps), -127, 127).astype(np.int8)
        return emitter.quantized_weights(rounded.transpose(axes), self.steps, channels)


@dataclass
class Linear(Flexible):
    """A product of each vector of channels with a kernel: a dense layer, or a convolution with a kernel of 1 x 1.

    With channels last it is a matrix product, and with channels second a convolution.

    Attributes:
        weights: The kernel (input channels, output channels).
    """

    weights: Weights

    def fits(self, operation, layout):
        return self._as(operation, layout) is not None

    def cost(self, operation, layout):
        return SMALL if self._as(operation, layout) == "MatMul" and self.weights.bias is not None else 0.0

    def candidates(self, operation):
        shape = operation.output.shape
        return [reshape(shape, (math.prod(shape[:-1]), shape[-1]))]

    def _as(self, operation, layout):
        """Return the operator that computes it in a layout; None if there is none."""
        last, rank = len(operation.output.shape) - 1, len(layout.groups)
        # Neither of the two sizes may be 1, or else it would not matter where the channels are.
        shape = (*operation.output.shape[:-1], max(operation.output.shape[-1], operation.inputs[0].shape[-1]))
        place = layout.place(last, shape)
        if place == 1 and rank == 4:
            return "Conv"
        if place is not None and place == rank - 1:
            return "Gemm" if rank == 2 else "MatMul"
        return None

    def emit(self, emitter, operation, form, inputs):
        target, weights = form.output.target, self.weights
        op_type = self._as(operation, form.choice)
        if op_type == "Conv":
            kernel = Weights(weights.kernel[None, None], weights.bias, weights.steps)
            attributes = {"kernel_shape": [1, 1]}
            inputs = [*inputs, kernel.emit(emitter, (3, 2, 0, 1))]
        else:
            attributes = {}
            inputs = [*inputs, weights.emit(emitter, (0, 1))]
        if weights.bias is None:
            return emitter.node("Conv" if op_type == "Conv" else "MatMul", inputs, target, attributes)
        bias = emitter.floats(weights.bias)
        if op_type in ("Conv", "Gemm"):
            return emitter.node(op_type, [*inputs, bias], target, attributes)
        return emitter.node("Add", [emitter.node("MatMul", inputs, target), bias], target)


@dataclass
class ChannelsFirst(Kind):
    """An ONNX operator on maps that are stored with channels first: a convolution, a pooling or a resize.

    Attributes:
        op_type: The operator.
        attributes: Its attributes.
        weights: The kernel (height, width, input channels of a group, output channels) of a convolution.
        sizes: The height and width of a resize's output.
    """

    op_type: str
    attributes: dict
    weights: Weights | None = None
    sizes: Shape | None = None

    def forms(self, operation, layout):
        first = (0, 3, 1, 2)
        return [Form((transpose(operation.inputs[0].shape, first),), transpose(operation.output.shape, first))]

    def emit(self, emitter, operation, form, inputs):
        if self.weights is not None:
            inputs = [*inputs, self.weights.emit(emitter, (3, 2, 0, 1))]
            if self.weights.bias is not None:
                inputs.append(emitter.floats(self.weights.bias))
        if self.sizes is not None:
            inputs = [*inputs, None, None, emitter.integers(form.output.target)]
        return emitter.node(self.op_type, inputs, form.output.target, self.attributes)


class MatMul(Kind):
    """A product of two matrices over the last two axes, of tensors with the same number of axes.

    It can be computed transposed, since (A B)^T = B^T A^T. A single pair of matrices can be a Gemm, which takes each of
    them transposed or not.
    """

    def forms(self, operation, layout):
        a, b = (tensor.shape for tensor in operation.inputs)
        output = operation.output.shape
        found = [
            Form((identity(a), identity(b)), identity(output), choice=False),
            Form((swap_last(a), swap_last(b)), swap_last(output), choice=True),
        ]
        if math.prod(a[:-2]) == math.prod(b[:-2]) == 1:
            for turned_a, turned_b, turned in itertools.product((False, True), repeat=3):
                found.append(
                    Form(
                        (_as_matrix(a, turned_a), _as_matrix(b, turned_b)),
                        _as_matrix(output, turned),
                        SMALL / 4,
                        (turned_a, turned_b, turned),
                    )
                )
        return found

    def emit(self, emitter, operation, form, inputs):
        target = form.output.target
        if isinstance(form.choice, bool):
            return emitter.node("MatMul", inputs[::-1] if form.choice else inputs, target)
        turned_a, turned_b, turned = form.choice
        if turned:
            inputs, turned_a, turned_b = inputs[::-1], not turned_b, not turned_a
        flags = {name: 1 for name, value in (("transA", turned_a), ("transB", turned_b)) if value}
        return emitter.node("Gemm" if flags else "MatMul", inputs, target, flags)


@dataclass
class Opaque(Kind):
    """Any other ONNX operator, which takes and gives everything as Keras does."""

    op_type: str
    attributes: dict

    def forms(self, operation, layout):
        return [Form(tuple(identity(tensor.shape) for tensor in operation.inputs), identity(operation.output.shape))]

    def emit(self, emitter, operation, form, inputs):
        return emitter.node(self.op_type, inputs, form.output.target, self.attributes)


def _as_matrix(shape: Shape, turned: bool) -> Rearrangement:
    """Return how a stack of one matrix is stored as a matrix, or as its transpose."""
    flat = reshape(shape, shape[-2:])
    if not turned:
        return flat
    joined = compose(flat, swap_last(shape[-2:]))
    assert joined is not None  # The first is a reshape.
    return joined


def _broadcast_form(tensor: Tensor, output: Shape, layout: Layout) -> Rearrangement | None:
    """Return how an operand is stored so that it is broadcast to the output as in Keras; None if it cannot be.

    A constant whose axes would not fit is broadcast beforehand, see `Emitter.read`.
    """
    shape = tensor.shape
    if tensor.constant is not None and not shape:
        return identity(shape)
    if tensor.constant is not None:
        for size in ((1,) * (len(output) - len(shape)) + shape, output):
            form = layout.of(size)
            if form is not None and _can_be_broadcast(form, layout.of(output)):
                return form
        return None
    if len(shape) != len(output):
        return None
    form = layout.of(shape)
    return form if form is not None and _can_be_broadcast(form, layout.of(output)) else None


def _can_be_broadcast(form, output):
    return all(size in (1, full) for size, full in zip(form.target, output.target, strict=True))
