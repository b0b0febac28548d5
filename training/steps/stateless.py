"""Call Keras layers as functions of the values of their variables."""

from collections.abc import Callable, Sequence
from typing import Any

import keras


class FunctionLayer(keras.layers.Layer):
    """A layer that calls a function of tensors, so that Keras passes `training` on to all layers within.

    Args:
        function: Called with the inputs as a tuple and with `training`. Variables that it reads keep their own
            precision.
        name: Name of the layer.
    """

    def __init__(self, function: Callable, name: str):
        super().__init__(autocast=False, name=name)
        self.function = function

    def call(self, *inputs, training=False):
        return self.function(inputs, training)


def call_with_values(
    layer: keras.layers.Layer, inputs: Sequence, variables: Sequence[keras.Variable], values: Sequence, training: bool
) -> tuple[Any, dict[int, Any]]:
    """Call a layer with other values of its variables, and leave the variables as they are.

    Args:
        layer: The layer.
        inputs: Its arguments.
        variables: Variables that the layer uses.
        values: A tensor for each of them.
        training: Whether the layer runs in training mode.

    Returns:
        The outputs, and the new values of those variables that the layer assigned to, by their index in `variables`.

    Raises:
        ValueError: The layer adds losses of its own, which would be lost.
    """
    with keras.StatelessScope(zip(variables, values, strict=True), collect_losses=True) as scope:
        before = [scope.get_current_value(variable) for variable in variables]
        outputs = layer(*inputs, training=training)
    if scope.losses:
        raise ValueError(f"{layer.name} adds losses of its own, such as an activity regularizer's; they would be lost.")
    after = [scope.get_current_value(variable) for variable in variables]
    return outputs, {index: new for index, new in enumerate(after) if new is not before[index]}
