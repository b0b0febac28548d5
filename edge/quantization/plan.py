"""Choose the operations that compute in int8: those that run faster on a CPU that way without losing accuracy."""

import keras

from keras_vit.edge.quantization.operations import PRODUCT
from keras_vit.graph.reading import PERMUTATIONS, RESHAPES, SLICES, consumers, inputs_of, producer
from keras_vit.layers import Fold, LearnedTokens, MatMul, TokenPooling, Unfold

# Products of matrices, which compute in int8 wherever they are.
PRODUCTS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D, MatMul)

# These compute in int8 only where all their inputs and outputs are int8 anyway, as between two convolutions. Elsewhere,
# converting to int8 and back would cost more than it saves. A residual stream that norms read stays in float.
_BETWEEN = {
    keras.layers.Add: "ADD",
    keras.layers.Multiply: "MUL",
    keras.layers.Concatenate: "CONCATENATION",
    keras.layers.GlobalAveragePooling2D: "MEAN",
}

# TensorFlow Lite fuses a ReLU into these.
_WITH_CLAMP = (
    keras.layers.Dense,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Add,
    keras.layers.Multiply,
)
_CLAMPS = (keras.activations.relu, keras.activations.relu6)


# These only move values, so their output is on the int8 grid if their input is.
_SAME_SIZE = (*RESHAPES, *PERMUTATIONS, keras.layers.ZeroPadding2D, Fold, Unfold)
_SMALLER = (*SLICES, TokenPooling)


def is_layout(operation) -> bool:
    """Return whether a layer or operation only moves values, or drops some, or adds zeros."""
    return _keeps_values(operation) or type(operation) in _SMALLER


def _keeps_values(operation) -> bool:
    return type(operation) in _SAME_SIZE or getattr(type(operation), "moves_pixels", False)


def activation_of(operation):
    """Return the function of a layer that is nothing but an activation; None for other layers."""
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return {None: keras.activations.relu, 6.0: keras.activations.relu6}.get(operation.max_value) if plain else None
    return operation.activation if isinstance(operation, keras.layers.Activation) else None


def operator_of(operation) -> str | None:
    """Return the TensorFlow Lite operator of an operation that may compute in int8; None for other operations.

    All products of matrices give `PRODUCT`.
    """
    if isinstance(operation, PRODUCTS):
        return PRODUCT
    if activation_of(operation) is keras.activations.sigmoid:
        return "LOGISTIC"
    return _BETWEEN.get(type(operation))


def is_clamp(operation) -> bool:
    """Return whether a layer is a ReLU or ReLU6."""
    return activation_of(operation) in _CLAMPS


class Plan:
    """The operations of a flat model that compute in int8.

    Args:
        flat: A model returned by `keras_vit.flatten`.

    Attributes:
        int8: Names of the operations that compute in int8. A product with an operand that is the same for every image
            is not among them: the file would store that operand as a constant, and the CPU delegate refuses that.
        clamps: Names of the ReLUs that TensorFlow Lite fuses into the operation before them.
        early: Names of the layout operations of which all users are int8, so that they can move int8 values.
    """

    def __init__(self, flat: keras.Model):
        self._uses = consumers(flat)
        self._operations = {operation.name: operation for operation in flat.operations}
        self.clamps = {name for name, operation in self._operations.items() if self._is_fused(operation)}
        constant = _constant(flat)
        self.int8 = {
            name
            for name, operation in self._operations.items()
            if operator_of(operation) is not None
            and not any(producer(tensor).name in constant for tensor in inputs_of(operation))
        }
        # Without one of them, its neighbors may no longer be worth computing in int8.
        while drop := {name for name in self.int8 if not self._belongs(self._operations[name])}:
            self.int8 -= drop
        self.clamps = {name for name in self.clamps if self._before(name).name in self.int8}
        self.early = {
            name
            for name, operation in self._operations.items()
            if _keeps_values(operation) and all(map(self._ends_in_int8, self._uses[name]))
        }

    def gives_grid(self, name: str) -> bool:
        """Return whether an operation, or the ReLU fused into it, gives int8 output on a grid of its own."""
        users = self._uses[name]
        if len(users) == 1 and users[0] is not None:
            if users[0].name in self.clamps:
                return False  # The fused operation does not give this tensor.
            if isinstance(users[0], keras.layers.Concatenate) and users[0].name in self.int8:
                # All inputs of a concatenation are on its grid, except that the grid of a sigmoid is fixed.
                return operator_of(self._operations[name]) == "LOGISTIC"
        return name in self.int8 or name in self.clamps

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
        while is_layout(operation) or operation.name in self.clamps:
            operation = producer(inputs_of(operation)[0])
        return operation.name in self.int8

    def _ends_in_int8(self, operation):
        if operation is None:
            return False
        if is_layout(operation) or operation.name in self.clamps:
            return all(map(self._ends_in_int8, self._uses[operation.name]))
        return operation.name in self.int8


def _constant(flat):
    """Return the names of the operations that depend on learned tokens only, not on the image."""
    constant = set()
    for operation in flat.operations:  # In an order in which inputs come before their users.
        before = [producer(tensor).name for tensor in inputs_of(operation)]
        if isinstance(operation, LearnedTokens) or (before and constant.issuperset(before)):
            constant.add(operation.name)
    return constant
