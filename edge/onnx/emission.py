"""Writing a planned program as an ONNX graph."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from keras_vit.edge.onnx.operations import Elementwise
from keras_vit.edge.onnx.planning import Plan
from keras_vit.edge.onnx.program import Operation, Program, Tensor, Value
from keras_vit.edge.onnx.rearrangement import Rearrangement, Shape, identity, nodes_of

# The newest format of files that every runtime for an opset reads.
_FORMAT = {17: 8, 18: 8, 19: 9, 20: 9}
_TYPES = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "int8": ir.DataType.INT8}


class Emitter:
    """Makes the ONNX nodes of a program.

    Args:
        program: The program.
        opset: The version of the operators.
        half: Whether values are float16, except those marked to be in full precision.

    Attributes:
        opset: The version of the operators.
    """

    def __init__(self, program: Program, opset: int, half: bool):
        self.opset = opset
        self._program, self._plan = program, Plan(program)
        self._float = "float16" if half else "float32"
        # Names of inputs and outputs are taken first, since a layer can have the same name.
        self._names = {*program.inputs, *program.outputs}
        self._nodes: list[ir.Node] = []
        self._initializers: dict[tuple, ir.Value] = {}
        self._stored: dict[Value, ir.Value] = {}
        self._moved: dict[tuple, ir.Value] = {}
        self._layer = ""
        self._dtype = self._float

    def model(self) -> ir.Model:
        """Return the ONNX model."""
        inputs, outputs = [], []
        for name, value in self._program.inputs.items():
            inputs.append(self._value(name, value.shape, "float32"))
            self._layer = name
            self._stored[value] = self.move(inputs[-1], self._plan.stored(value))
        for operation in self._program.operations:
            self._emit(operation)
        for name, tensor in self._program.outputs.items():
            outputs.append(self._output(name, tensor))
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": self.opset},
            name=self._program.name,
        )
        return ir.Model(graph, ir_version=_FORMAT[self.opset])

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        shape: Shape,
        attributes: dict | None = None,
        dtype: str | None = None,
    ) -> ir.Value:
        """Add a node and return its output.

        Args:
            op_type: The operator.
            inputs: What it takes.
            shape: The shape of what it gives.
            attributes: Its attributes by name.
            dtype: The type of what it gives; the default is that of the operation.
        """
        name = self._free(f"{self._layer}/{op_type}")
        output = self._value(name, shape, dtype or self._dtype)
        self._nodes.append(ir.node(op_type, inputs, attributes or {}, outputs=[output], name=name))
        return output

    def move(self, value: ir.Value, step: Rearrangement) -> ir.Value:
        """Add the nodes that rearrange a value, and return the result."""
        dtype = next(name for name, known in _TYPES.items() if known == value.dtype)
        if not step.is_reshape:
            before, axes, after = nodes_of(step)
            value = self._reshape(value, step.source, before, dtype)
            value = self.node("Transpose", [value], after, {"perm": axes}, dtype)
            return self._reshape(value, after, step.target, dtype)
        return self._reshape(value, step.source, step.target, dtype)

    def integers(self, numbers: Sequence[int]) -> ir.Value:
        """Return a constant of int64 numbers."""
        return self._initializer("_".join(map(str, numbers)), np.array(numbers, np.int64))

    def floats(self, array: np.ndarray, full: bool = False) -> ir.Value:
        """Return a constant in the type of the operation, or in float32."""
        dtype = "float32" if full else self._dtype
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(array, dtype)
        if np.isinf(stored).any() and not np.isinf(array).any():
            raise ValueError(
                f"The layer {self._layer!r} has a weight of {np.abs(array).max():.3g}, which float16 cannot hold; "
                "export the model in float32."
            )
        return self._initializer(f"{self._layer}/weights", stored)

    def grid(self, step: float) -> tuple[ir.Value, ir.Value]:
        """Return the scale and the zero point of an int8 grid."""
        scale = self._initializer(f"{self._layer}/scale", np.array(step, np.float32))
        return scale, self._initializer("zero_point", np.array(0, np.int8))

    def quantized_weights(self, array: np.ndarray, steps: np.ndarray, axis: int) -> ir.Value:
        """Return int8 weights, dequantized with a scale for each index of an axis."""
        inputs = [
            self._initializer(f"{self._layer}/weights", np.ascontiguousarray(array)),
            self._initializer(f"{self._layer}/scale", np.ascontiguousarray(steps, np.float32)),
            self._initializer(f"zero_points_{len(steps)}", np.zeros(len(steps), np.int8)),
        ]
        return self.node("DequantizeLinear", inputs, array.shape, {"axis": axis}, "float32")

    def _emit(self, operation: Operation) -> None:
        form = self._plan.form(operation)
        self._layer, self._dtype = operation.layer, "float32" if operation.full else self._float
        inputs = [
            self._read(tensor, taken, self._dtype, isinstance(operation.kind, Elementwise))
            for tensor, taken in zip(operation.inputs, form.inputs, strict=True)
        ]
        result = operation.kind.emit(self, operation, form, inputs)
        for step in self._plan.after(operation, form):
            result = self.move(result, step)
        self._stored[operation.output] = result

    def _read(self, tensor: Tensor, form: Rearrangement, dtype: str, broadcasts: bool = False) -> ir.Value:
        """Return a tensor in some form and type.

        Where operands are broadcast, constants have no leading axes of size 1: onnxruntime recognizes a division by the
        root mean square only if its scale has a single axis.
        """
        array = tensor.constant
        if array is not None:
            # A constant that was given for fewer axes, or for one of the repeated ones only.
            array = array.reshape((1,) * (len(form.source) - array.ndim) + array.shape)
            array = form(np.broadcast_to(array, form.source))
            while broadcasts and array.ndim and array.shape[0] == 1:
                array = array[0]
            if array.dtype.kind == "i":
                return self._initializer(f"{self._layer}/integers", np.ascontiguousarray(array))
            return self.floats(array, full=dtype == "float32")
        value = tensor.value
        result, done = self._stored[value], []
        for step in self._plan.steps(tensor, form):
            done.append(step)
            result = self._once((value, *done), lambda before=result, step=step: self.move(before, step))
        if result.dtype != _TYPES[dtype]:
            to = {"to": _TYPES[dtype].value}
            result = self._once((value, *done, dtype), lambda: self.node("Cast", [result], form.target, to, dtype))
        return result

    def _once(self, key: tuple, make) -> ir.Value:
        """Return what was made for the same key before, or make it."""
        if key not in self._moved:
            self._moved[key] = make()
        return self._moved[key]

    def _output(self, name: str, tensor: Tensor) -> ir.Value:
        self._layer = tensor.value.layer
        result = self._read(tensor, identity(tensor.shape), "float32")
        producer = result.producer()
        if producer is None or result.name in self._program.outputs:  # An input, or an output already.
            result = self.node("Identity", [result], tensor.shape, dtype="float32")
        result.name = name
        return result

    def _reshape(self, value, source, target, dtype):
        if source == target:
            return value
        return self.node("Reshape", [value, self.integers(target)], target, dtype=dtype)

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        """Return a constant. Small ones are shared."""
        key = (array.shape, array.dtype, array.tobytes() if array.size <= 16 else len(self._initializers))
        if key not in self._initializers:
            tensor = ir.tensor(array, name=self._free(name))
            self._initializers[key] = ir.Value(
                name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
        return self._initializers[key]

    def _value(self, name, shape, dtype):
        return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(_TYPES[dtype]))

    def _free(self, name: str) -> str:
        """Return a name that is not taken yet, and take it."""
        free = next(
            free for number in itertools.count() if (free := f"{name}_{number}" if number else name) not in self._names
        )
        self._names.add(free)
        return free
