"""What the writers of layers call to add operations to a program."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from keras_vit.edge.onnx import operations as kinds
from keras_vit.edge.onnx.program import Operation, Program, Tensor, Value, broadcast
from keras_vit.edge.onnx.rearrangement import Shape, reshape, transpose

# ONNX operators that work element by element on any number of inputs, with broadcasting.
_ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "Ceil",
        "Clip",
        "Cos",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Less",
        "Log",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Tanh",
        "ThresholdedRelu",
        "Where",
    ]
)


class OnnxBuilder:
    """Adds the ONNX operators of a layer to a file.

    Tensors are those of the Keras model, with a fixed batch size and channels last. The file may store them otherwise;
    transposes are added where that is necessary.

    Attributes:
        opset: The version of the operators.
        batch_size: The number of images that the file takes at once.
        rounded: Whether the model is quantized, so that what is exact in a float model may not be.
    """

    def __init__(self, program: Program, opset: int, batch_size: int, rounded: bool = False):
        self.opset = opset
        self.batch_size = batch_size
        self.rounded = rounded
        self._program = program
        self._layer = ""
        self._full = False

    @contextlib.contextmanager
    def layer(self, name: str) -> Iterator[None]:
        """Let all operations of the block belong to a layer."""
        self._layer, before = name, self._layer
        yield
        self._layer = before

    @contextlib.contextmanager
    def float32(self) -> Iterator[None]:
        """Let all operations of the block compute in float32, in a float16 file too."""
        self._full, before = True, self._full
        yield
        self._full = before

    def op(
        self,
        op_type: str,
        *inputs: Tensor | np.ndarray | float,
        shape: Sequence[int] | None = None,
        **attributes: object,
    ) -> Tensor:
        """Add an ONNX operator with one output.

        Args:
            op_type: The name of the operator.
            inputs: Tensors, or constants as arrays or numbers.
            shape: The shape of the output, with the batch size. An operator that works element by element, such as
                "Add" or "Erf", needs none; for others, the default is the shape of the first input.
            attributes: The attributes of the operator.

        Returns:
            The output.
        """
        tensors = [self.tensor(each) for each in inputs]
        if op_type in _ELEMENTWISE:
            output = broadcast([tensor.shape for tensor in tensors])
            return self._add(kinds.Elementwise(op_type, attributes), tensors, output)
        output = tensors[0].shape if shape is None else tuple(shape)
        return self._add(kinds.Opaque(op_type, attributes), tensors, output)

    def tensor(self, given: Tensor | np.ndarray | float) -> Tensor:
        """Return a tensor. Numbers and arrays become constants: arrays of integers in int64, all others in float32."""
        if isinstance(given, Tensor):
            return given
        whole = isinstance(given, np.ndarray) and given.dtype.kind == "i"
        array = np.asarray(given, np.int64 if whole else np.float32)
        return Tensor(Value(array.shape, self._layer, constant=array))

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Return a tensor in another shape, in which one size may be -1."""
        known = -math.prod(shape) if -1 in shape else 1
        target = tuple(math.prod(x.shape) // known if size == -1 else int(size) for size in shape)
        return x.viewed(reshape(x.shape, target))

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Return a tensor with its axes in another order."""
        return x.viewed(transpose(x.shape, tuple(int(axis) % len(x.shape) for axis in axes)))

    def swap_last(self, x: Tensor) -> Tensor:
        """Return a tensor with its last two axes exchanged."""
        rank = len(x.shape)
        return self.transpose(x, (*range(rank - 2), rank - 1, rank - 2))

    def slice(self, x: Tensor, axis: int, start: int | None, stop: int | None, step: int = 1) -> Tensor:
        """Return some elements along an axis, chosen as by Python's `slice` with a positive step."""
        axis %= len(x.shape)
        start, stop, step = slice(start, stop, step).indices(x.shape[axis])
        chosen = len(range(start, stop, step))
        if chosen == x.shape[axis]:
            return x
        return self._add(kinds.Slice(axis, start, stop, step), [x], _with_size(x.shape, axis, chosen))

    def concat(self, tensors: Sequence[Tensor | np.ndarray], axis: int) -> Tensor:
        """Return tensors joined along an axis. Constants are repeated for each image of the batch."""
        given = [self.tensor(each) for each in tensors]
        axis %= len(given[0].shape)
        full = [
            self.tensor(np.broadcast_to(each.constant, (self.batch_size, *each.shape[1:])))
            if each.constant is not None
            else each
            for each in given
        ]
        size = sum(each.shape[axis] for each in full)
        return self._add(kinds.AlongAxis("Concat", axis), full, _with_size(full[0].shape, axis, size))

    def pad(self, x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
        """Return a tensor with zeros before and after along each axis."""
        if not any(map(any, pads)):
            return x
        shape = tuple(before + size + after for size, (before, after) in zip(x.shape, pads, strict=True))
        return self._add(kinds.Pad(tuple((int(before), int(after)) for before, after in pads)), [x], shape)

    def reduce(self, op_type: str, x: Tensor, axes: Sequence[int], keepdims: bool = False) -> Tensor:
        """Return "ReduceMean", "ReduceSum" or "ReduceMax" of a tensor over some axes."""
        axes = tuple(sorted(axis % len(x.shape) for axis in axes))
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
        reduced = self._add(kinds.Reduce(op_type, axes), [x], shape)
        return reduced if keepdims else self.reshape(reduced, [s for axis, s in enumerate(shape) if axis not in axes])

    def softmax(self, x: Tensor, axis: int = -1) -> Tensor:
        """Return the softmax along an axis, in float32."""
        with self.float32():
            return self._add(kinds.AlongAxis("Softmax", axis % len(x.shape)), [x], x.shape)

    def layer_norm(self, x: Tensor, scale: np.ndarray, shift: np.ndarray | None, epsilon: float) -> Tensor:
        """Return a tensor normalized over its last axis, in float32, then scaled and shifted."""
        with self.float32():
            return self._add(kinds.LayerNorm(scale, shift, epsilon), [x], x.shape)

    def rms_norm(self, x: Tensor, scale: np.ndarray, shift: np.ndarray | None, epsilon: float) -> Tensor:
        """Return a tensor divided by its root mean square over the last axis, in float32, then scaled and shifted.

        ONNX has no operator for it before opset 23. onnxruntime computes these operators in this order as one.
        """
        with self.float32():
            mean = self.reduce("ReduceMean", self.op("Pow", x, 2.0), (-1,), keepdims=True)
            root = self.op("Sqrt", self.op("Add", mean, epsilon))
            output = self.op("Mul", self.op("Div", x, root), scale)
            return output if shift is None else self.op("Add", output, shift)

    def image_norm(self, x: Tensor, epsilon: float) -> Tensor:
        """Return a tensor normalized over all its axes but the first, in float32."""
        with self.float32():
            return self._add(kinds.ImageNorm(epsilon), [x], x.shape)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the product of two tensors over the last two axes."""
        shape = (*broadcast([a.shape[:-2], b.shape[:-2]]), a.shape[-2], b.shape[-1])
        return self._add(kinds.MatMul(), [a, b], shape)

    def linear(self, x: Tensor, weights: kinds.Weights) -> Tensor:
        """Return the product of each vector along the last axis with a kernel (inputs, outputs), plus the bias."""
        return self._add(kinds.Linear(weights), [x], (*x.shape[:-1], weights.kernel.shape[-1]))

    def convolution(
        self,
        x: Tensor,
        weights: kinds.Weights,
        strides: Sequence[int],
        padding: str,
        dilations: Sequence[int] = (1, 1),
        groups: int = 1,
    ) -> Tensor:
        """Return the convolution of maps (batch, height, width, channels).

        Args:
            x: The maps.
            weights: The kernel (height, width, input channels of a group, output channels) and the bias.
            strides: The strides of rows and columns.
            padding: "same" or "valid", as in Keras.
            dilations: The dilations of rows and columns.
            groups: The number of groups of channels.
        """
        window = weights.kernel.shape[:2]
        x, pads = self._pads(x, window, strides, padding, dilations)
        sizes = self._window_sizes(x.shape, window, strides, pads, dilations)
        if window == (1, 1) and set(strides) == {1} and not any(map(any, pads)) and groups == 1:
            return self.linear(x, kinds.Weights(weights.kernel[0, 0], weights.bias, weights.steps))
        attributes = {
            "kernel_shape": list(window),
            "strides": list(strides),
            "dilations": list(dilations),
            "pads": [pad[0] for pad in pads] + [pad[1] for pad in pads],
            "group": groups,
        }
        shape = (x.shape[0], *sizes, weights.kernel.shape[-1])
        return self._add(kinds.ChannelsFirst("Conv", attributes, weights), [x], shape)

    def pooling(self, x: Tensor, op_type: str, window: Sequence[int], strides: Sequence[int], padding: str) -> Tensor:
        """Return "MaxPool" or "AveragePool" of maps. Averages are over the pixels of the map, not the padding."""
        pads = [
            _same(size, *rest) if padding == "same" else (0, 0)
            for size, *rest in zip(x.shape[1:3], window, strides, strict=True)
        ]
        attributes = {
            "kernel_shape": list(window),
            "strides": list(strides),
            "pads": [pad[0] for pad in pads] + [pad[1] for pad in pads],
        }
        shape = (x.shape[0], *self._window_sizes(x.shape, window, strides, pads), x.shape[3])
        return self._add(kinds.ChannelsFirst(op_type, attributes), [x], shape)

    def resize(self, x: Tensor, height: int, width: int, mode: str = "linear") -> Tensor:
        """Return maps resized with half-pixel centers, by "linear" or "nearest" interpolation."""
        if x.shape[1:3] == (height, width):
            return x
        attributes = {"mode": mode, "coordinate_transformation_mode": "half_pixel"}
        shape = (x.shape[0], height, width, x.shape[3])
        return self._add(kinds.ChannelsFirst("Resize", attributes, sizes=shape), [x], shape)

    def quantize(self, x: Tensor, step: float) -> Tensor:
        """Return a tensor rounded to the int8 grid of integers from -128 to 127 times `step`."""
        return self._add(kinds.Quantize(step), [x], x.shape)

    def gelu(self, x: Tensor, approximate: bool = False) -> Tensor:
        """Return GELU. It is a single operator from opset 20 on."""
        if self.opset >= 20:
            return self.op("Gelu", x, approximate="tanh" if approximate else "none")
        if approximate:
            cube = self.op("Mul", self.op("Mul", x, x), x)
            inner = self.op("Mul", self.op("Add", x, self.op("Mul", cube, 0.044715)), math.sqrt(2 / math.pi))
            cumulative = self.op("Tanh", inner)
        else:
            cumulative = self.op("Erf", self.op("Mul", x, math.sqrt(0.5)))
        return self.op("Mul", self.op("Mul", x, 0.5), self.op("Add", cumulative, 1.0))

    def as_value(self, x: Tensor) -> Value:
        """Return the value of a tensor, with a copy if it is rearranged."""
        if not x.views and x.constant is None:
            return x.value
        return self._add(kinds.Copy(), [x], x.shape).value

    def _add(self, kind: kinds.Kind, inputs: list[Tensor], shape: Shape) -> Tensor:
        value = Value(tuple(int(size) for size in shape), self._layer, full=self._full)
        value.operation = Operation(kind, inputs, value, self._layer, self._full)
        self._program.operations.append(value.operation)
        return Tensor(value)

    def _pads(self, x, window, strides, padding, dilations):
        """Return what a convolution takes and its padding, which includes zeros that were added before."""
        pads = [
            _same(size, *rest) if padding == "same" else (0, 0)
            for size, *rest in zip(x.shape[1:3], window, strides, dilations, strict=True)
        ]
        before = x.value.operation
        if padding == "valid" and not x.views and before is not None and isinstance(before.kind, kinds.Pad):
            batch, rows, columns, channels = before.kind.pads
            if not any(batch) and not any(channels):
                return before.inputs[0], [rows, columns]
        return x, pads

    @staticmethod
    def _window_sizes(shape, window, strides, pads, dilations=(1, 1)):
        return [
            (size + sum(pad) - dilation * (width - 1) - 1) // stride + 1
            for size, width, stride, pad, dilation in zip(shape[1:3], window, strides, pads, dilations, strict=True)
        ]


def _same(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Return the zeros before and after an axis that Keras' padding "same" adds."""
    missing = max((math.ceil(size / stride) - 1) * stride + dilation * (window - 1) + 1 - size, 0)
    return missing // 2, missing - missing // 2


def _with_size(shape: Shape, axis: int, size: int) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])
