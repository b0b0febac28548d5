"""Call Keras layers as stateless functions of the values of their variables."""

from collections.abc import Callable, Sequence
from typing import Any

import keras


class FunctionLayer(keras.layers.Layer):
    """A layer that calls a function. Keras passes `training` on to the layers that the function calls.

    Args:
        function: The function. It is called with the tuple of inputs and with `training`. Variables that it reads are
            not cast to the compute dtype.
        name: The name of the layer.
    """

    def __init__(self, function: Callable, name: str):
        super().__init__(autocast=False, name=name)
        self.function = function

    def call(self, *inputs, training=False):
        return self.function(inputs, training)


def call_with_values(
    layer: keras.layers.Layer, inputs: Sequence, variables: Sequence[keras.Variable], values: Sequence, training: bool
) -> tuple[Any, dict[int, Any]]:
    """Call a layer with other values for its variables, without changing the variables.

    Args:
        layer: The layer.
        inputs: The inputs of the layer.
        variables: Variables that the layer uses.
        values: The values to use for these variables, as tensors.
        training: Whether the layer runs in training mode.

    Returns:
        The outputs, and the new values of the variables that the layer assigned to, by their index in `variables`.

    Raises:
        ValueError: If the layer adds losses, which would be lost.
    """
    with keras.StatelessScope(zip(variables, values, strict=True), collect_losses=True) as scope:
        before = [scope.get_current_value(variable) for variable in variables]
        outputs = layer(*inputs, training=training)
    if scope.losses:
        raise ValueError(f"{layer.name} adds losses, such as those of an activity regularizer, which would be lost.")
    after = [scope.get_current_value(variable) for variable in variables]
    return outputs, {index: new for index, new in enumerate(after) if new is not before[index]}
