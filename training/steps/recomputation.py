"""Gradient checkpointing: training a model that is larger than its activations would allow."""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from keras_vit.layers.composite import Composite
from keras_vit.training.steps.stateless import AsLayer, computed_with


def recompute(model: keras.Model) -> None:
    """Makes each block of a model forget its inner activations in training and compute them again for its gradient.

    That is Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174, section 4), with the blocks
    as segments: what is kept of a block until the backward pass is its input, and while its gradient is computed, the
    activations of this block alone. A step takes one more forward pass, about a third of its time.

    Gradients are what they were. Both passes have the same random numbers, and random states and statistics of
    BatchNormalization move on once: the block is computed as a function of its weights' and states' values, whose new
    values are assigned after the first pass.

    The model stays what it was: compile, fit and save it as always; a loaded or cloned one trains without. Inference
    doesn't change.

    Args:
        model: A model of keras_vit. A block is a layer with composite layers as parts, as in `layer_depths`.

    Raises:
        ValueError: The model has no such blocks.
    """
    blocks = list(_blocks(model))
    if not blocks:
        raise ValueError(
            f"{model.name} has no blocks, which are layers made of composite layers of keras_vit, so there is nothing "
            "to compute again."
        )
    if not recomputes(model):
        for block in blocks:
            block.call = _recomputed(block)
    # Steps that were compiled before are forgotten.
    model.train_function = None


def recomputes(model: keras.Model) -> bool:
    """Whether `recompute` was called on a model."""
    return any("call" in vars(block) for block in _blocks(model))


def _blocks(model: keras.Model) -> Iterator[Composite]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _blocks(layer)
        elif isinstance(layer, Composite) and any(isinstance(part, Composite) for part in layer.parts().values()):
            yield layer


def _recomputed(block: Composite) -> Callable:
    """What takes the place of the block's `call`."""
    call = block.call
    inner = AsLayer(lambda inputs, training: call(*inputs), block.name)

    def run(inputs, training):
        if not training or any(isinstance(tensor, keras.KerasTensor) for tensor in keras.tree.flatten(inputs)):
            return call(*inputs)
        return _forgetting(inner, inputs, block.trainable_variables, block.non_trainable_variables)

    outer = AsLayer(run, block.name)
    # A function, since Keras would take a layer for a part of the block.
    return lambda *inputs: outer(*inputs)


def _forgetting(run: AsLayer, inputs: tuple, weights: list, states: list):
    """`run(*inputs, training=True)`, of which only inputs and variables' values are kept for the backward pass."""
    sizes = len(keras.tree.flatten(inputs)), len(weights), len(states)
    structure, moved = [], []  # Of the outputs; the states that get a new value. Both are known after the first pass.

    def function(tensors, weight_values, state_values):
        arguments = keras.tree.pack_sequence_as(inputs, tensors)
        return computed_with(run, arguments, [*states, *weights], [*state_values, *weight_values], training=True)

    @tf.custom_gradient
    def forward(*arguments):
        tensors, weight_values, state_values = _split(arguments, sizes)
        outputs, new = function(tensors, weight_values, state_values)
        structure.append(outputs)
        moved.extend(states[place] for place in new)
        flat = keras.tree.flatten(outputs)

        def backward(*gradients):
            gradients = gradients[: len(flat)]
            again, state_again = _split(_after(gradients, [*tensors, *state_values]), (len(tensors), len(state_values)))
            sources = [*again, *weight_values]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                outputs, _ = function(again, weight_values, state_again)
            return [*tape.gradient(keras.tree.flatten(outputs), sources, gradients), *(None for _ in states)]

        return [*flat, *new.values()], backward

    values = [tf.convert_to_tensor(variable.value) for variable in [*weights, *states]]
    results = forward(*keras.tree.flatten(inputs), *values)
    outputs, new = _split(results, (len(results) - len(moved), len(moved)))
    for state, value in zip(moved, new, strict=True):
        state.assign(value)
    return keras.tree.pack_sequence_as(structure[0], outputs)


def _split(values, sizes):
    parts = []
    for size in sizes:
        parts.append(list(values[:size]))
        values = values[size:]
    return parts


def _after(gradients, tensors):
    """The tensors as they are, in a way that needs the gradients.

    Otherwise the second pass would not wait for the backward pass to get to the block, and a compiler would see that it
    is the first one again and keep that one's activations.
    """
    first = tf.reshape(gradients[0], [-1])[:1]
    spoilt = tf.reduce_any(tf.math.is_nan(first))  # Then so is the step, whatever is added here.
    return [tensor + tf.cast(spoilt, tensor.dtype) for tensor in tensors]
