"""A model and a file as the same thing: named inputs, named outputs, and a function from the ones to the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_vit.edge.inputs import Input, model_inputs, output_names

if TYPE_CHECKING:
    import keras

    from keras_vit.edge.devices.interpreter import Interpreter


@dataclass(frozen=True)
class Computation:
    """What computes outputs from inputs.

    Attributes:
        name: What messages call it.
        inputs: The name and shape of each input, without the batch and with None for a free size.
        outputs: The name of each output.
        run: From a float32 array (N, ...) for each input to one for each output.
    """

    name: str
    inputs: list[Input]
    outputs: list[str]
    run: Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def of_model(model: keras.Model) -> Computation:
    """Return the computation of a Keras model in inference mode.

    Raises:
        TypeError: It is not a Keras model, or neither functional nor sequential.
    """
    import keras

    from keras_vit.graph.reading import as_functional, calls_before

    if not isinstance(model, keras.Model):
        raise TypeError(
            f"model must be a keras.Model or the path of a .tflite or .onnx file; received {type(model).__name__}."
        )
    functional = as_functional(model)
    calls = [call for call in calls_before(functional.outputs) if not call.is_input]

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        # Layer by layer: Keras would keep what each layer gives until the end, twice the size of a small model.
        found = {
            id(tensor): keras.ops.convert_to_tensor(value, tensor.dtype)
            for tensor, value in zip(functional.inputs, values, strict=True)
        }
        remaining = Counter(id(tensor) for call in calls for tensor in call.input_tensors)
        remaining.update(map(id, functional.outputs))
        for call in calls:
            args, kwargs = call.arguments.fill_in(found)
            if getattr(call.operation, "_call_has_training_arg", False):
                kwargs = {**kwargs, "training": False}  # As Keras does, in place of the recorded one.
            outputs = keras.tree.flatten(call.operation(*args, **kwargs))
            found.update(zip(map(id, call.output_tensors), outputs, strict=True))
            for tensor in call.input_tensors:
                remaining[id(tensor)] -= 1
                if not remaining[id(tensor)]:
                    del found[id(tensor)]
        outputs = [found[id(tensor)] for tensor in functional.outputs]
        return [keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")) for output in outputs]

    return Computation("the model", model_inputs(functional), output_names(functional), run)


def of_file(interpreter: Interpreter) -> Computation:
    """Return the computation of a .tflite file that is ready to run. Its names are those of its signature."""

    def shape(detail: dict) -> tuple[int | None, ...]:
        return tuple(None if size == -1 else size for size in detail["shape"][1:])

    inputs = [(detail["signature"] or detail["name"], shape(detail)) for detail in interpreter.inputs]
    outputs = [detail["signature"] or f"output_{i}" for i, detail in enumerate(interpreter.outputs)]
    return Computation(interpreter.file, inputs, outputs, interpreter.run)


def matching(candidate: Computation, reference: Computation) -> Computation:
    """Return a computation with its inputs and outputs in the order of those of another, which has the same.

    Both are paired by name, or in order where one of the two has only numbers for names.

    Raises:
        ValueError: The inputs have other shapes, or the outputs have other names.
    """
    order = _order([name for name, _ in candidate.inputs], [name for name, _ in reference.inputs])
    shapes = None if order is None else [candidate.inputs[i][1] for i in order]
    expected = [shape for _, shape in reference.inputs]
    if order is None or shapes is None or not all(map(_same_shape, shapes, expected)):
        taken = [shape for _, shape in candidate.inputs]
        if len(taken) == len(expected) == 1:
            raise ValueError(
                f"{candidate.name} takes images of shape {taken[0]}; {reference.name} takes {expected[0]}."
            )
        raise ValueError(
            f"{candidate.name} takes the inputs {dict(candidate.inputs)}; "
            f"{reference.name} takes {dict(reference.inputs)}."
        )
    named = set(candidate.outputs) == set(reference.outputs)
    if not named and _has_names(candidate.outputs) and _has_names(reference.outputs):
        raise ValueError(
            f"{candidate.name} gives the outputs {candidate.outputs}; {reference.name} gives {reference.outputs}."
        )

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = candidate.run([values[order.index(i)] for i in range(len(order))])
        return [outputs[candidate.outputs.index(name)] for name in reference.outputs] if named else outputs

    outputs = reference.outputs if named else candidate.outputs
    return Computation(candidate.name, reference.inputs, outputs, run)


def _order(names: list[str], wanted: list[str]) -> list[int] | None:
    """Return the place of each wanted name, or the places in order if the names are others; None for another number."""
    if len(names) != len(wanted):
        return None
    return [names.index(name) for name in wanted] if set(names) == set(wanted) else list(range(len(names)))


def _has_names(outputs: list[str]) -> bool:
    return not all(re.fullmatch(r"output_\d+", name) for name in outputs)


def _same_shape(a: tuple[int | None, ...], b: tuple[int | None, ...]) -> bool:
    return len(a) == len(b) and all(x == y or None in (x, y) for x, y in zip(a, b, strict=True))
