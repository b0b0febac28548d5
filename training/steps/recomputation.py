"""Gradient checkpointing: train models whose activations would not fit into memory."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import tensorflow as tf

from keras_vit.layers.composite import Composite
from keras_vit.training.steps.stateless import FunctionLayer, call_with_values
from keras_vit.training.steps.step import Override, StepOptions, change_step


def recompute(model: keras.Model) -> None:
    """Save memory in training: discard the inner activations of each block, and recompute them for its gradient.

    This is gradient checkpointing (Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174,
    section 4) with the blocks as segments. Until the backward pass, only the input of each block is kept. Inner
    activations are kept for only one block at a time, while its gradient is computed. The additional forward pass makes
    a step about a third slower.

    The gradients do not change: both passes use the same random numbers, and random states and the statistics of batch
    normalization are updated only once.

    Compile, fit and save the model as usual. Recomputation is not saved: a loaded or cloned model trains without it. It
    does not affect inference. `restore_step` turns it off.

    Args:
        model: A model of keras_vit. Its blocks are the layers that contain composite layers, as in `layer_depths`.

    Raises:
        ValueError: If the model has no such blocks.
    """
    if not list(_blocks(model)):
        raise ValueError(
            f"{model.name} has no blocks to recompute. Blocks are layers that contain composite layers, as in the "
            "models of keras_vit."
        )
    change_step(model, recomputation=Recomputation())


@dataclass(frozen=True)
class Recomputation:
    """The option of a training step that `recompute` sets."""

    def overrides(self, model: keras.Model, options: StepOptions) -> Iterator[Override]:
        others = () if options.sizes is None else options.sizes.other_models
        for each in (model, *others):
            for block in _blocks(each):
                yield Override(block, "call", _recomputing_call(block))


def _blocks(model: keras.Model) -> Iterator[Composite]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _blocks(layer)
        elif isinstance(layer, Composite) and any(isinstance(part, Composite) for part in layer.parts().values()):
            yield layer


def _recomputing_call(block: Composite) -> Callable:
    """Return the replacement for the block's `call`."""
    call = functools.partial(type(block).call, block)
    inner = FunctionLayer(lambda inputs, training: call(*inputs), block.name)

    def run(inputs, training):
        if not training or any(isinstance(tensor, keras.KerasTensor) for tensor in keras.tree.flatten(inputs)):
            return call(*inputs)
        return _call_without_activations(inner, inputs, block.trainable_variables, block.non_trainable_variables)

    outer = FunctionLayer(run, block.name)
    # Return a function, because Keras would track a layer as a part of the block.
    return lambda *inputs: outer(*inputs)


def _call_without_activations(run: FunctionLayer, inputs: tuple, weights: list, states: list):
    """Return `run(*inputs, training=True)`, keeping only the inputs and variable values for the backward pass."""
    sizes = len(keras.tree.flatten(inputs)), len(weights), len(states)
    structure, updated = [], []  # The structure of the outputs, and the updated states. The first pass fills both.

    def function(tensors, weight_values, state_values):
        arguments = keras.tree.pack_sequence_as(inputs, tensors)
        return call_with_values(run, arguments, [*states, *weights], [*state_values, *weight_values], training=True)

    @tf.custom_gradient
    def forward(*arguments):
        tensors, weight_values, state_values = _split(arguments, sizes)
        outputs, new = function(tensors, weight_values, state_values)
        structure.append(outputs)
        updated.extend(states[index] for index in new)
        flat = keras.tree.flatten(outputs)

        def backward(*gradients):
            gradients = gradients[: len(flat)]
            again, state_again = _split(
                _depending_on(gradients, [*tensors, *state_values]), (len(tensors), len(state_values))
            )
            sources = [*again, *weight_values]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                outputs, _ = function(again, weight_values, state_again)
            return [*tape.gradient(keras.tree.flatten(outputs), sources, gradients), *(None for _ in states)]

        return [*flat, *new.values()], backward

    values = [tf.convert_to_tensor(variable.value) for variable in [*weights, *states]]
    results = forward(*keras.tree.flatten(inputs), *values)
    outputs, new = _split(results, (len(results) - len(updated), len(updated)))
    for state, value in zip(updated, new, strict=True):
        state.assign(value)
    return keras.tree.pack_sequence_as(structure[0], outputs)


def _split(values, sizes):
    parts = []
    for size in sizes:
        parts.append(list(values[:size]))
        values = values[size:]
    return parts


def _depending_on(gradients, tensors):
    """Return the tensors unchanged, but make their computation depend on the gradients.

    Otherwise, the second pass could run before the backward pass reaches the block, and a compiler could detect that it
    repeats the first pass and keep the activations of the first pass instead.
    """
    first = tf.reshape(gradients[0], [-1])[:1]
    invalid = tf.reduce_any(tf.math.is_nan(first))  # In this case the step is invalid anyway.
    return [tensor + tf.cast(invalid, tensor.dtype) for tensor in tensors]
