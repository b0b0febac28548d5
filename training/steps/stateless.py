"""Layers of Keras as functions of their variables' values."""

from collections.abc import Sequence
from typing import Any

import keras


class AsLayer(keras.layers.Layer):
    """A function of tensors, called as Keras calls a layer: it and all layers within are told if this is training.

    Args:
        function: Called with the inputs as a tuple and `training`. Variables that it reads have their own precision.
        name: Of the layer.
    """

    def __init__(self, function, name: str):
        super().__init__(autocast=False, name=name)
        self.function = function

    def call(self, *inputs, training=False):
        return self.function(inputs, training)


def computed_with(
    layer: keras.layers.Layer, inputs: Sequence, variables: Sequence[keras.Variable], values: Sequence, training: bool
) -> tuple[Any, dict[int, Any]]:
    """What a layer gives where its variables have other values. The variables stay as they are.

    Returns:
        The outputs, and the values of those variables that the layer assigned to, by their places in `variables`.

    Raises:
        ValueError: The layer adds losses of its own, which would be lost.
    """
    with keras.StatelessScope(zip(variables, values, strict=True), collect_losses=True) as scope:
        before = [scope.get_current_value(variable) for variable in variables]
        outputs = layer(*inputs, training=training)
    if scope.losses:
        raise ValueError(f"{layer.name} adds losses of its own, such as an activity regularizer's; they would be lost.")
    after = [scope.get_current_value(variable) for variable in variables]
    return outputs, {place: new for place, new in enumerate(after) if new is not before[place]}
