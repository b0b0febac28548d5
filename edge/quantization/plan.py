"""Which operations of a model compute in int8: those that the CPU delegate runs faster so and accuracy stands."""

import keras

from keras_vit.edge.conversion.int8_file import PRODUCT
from keras_vit.graph.reading import consumers, inputs_of, producer
from keras_vit.layers import LearnedTokens, MatMul

# Products of matrices, wherever they are.
PRODUCTS = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D, MatMul)

# What is worth it only where all that it takes and gives is int8 anyway: between two convolutions, say. In float, the
# numbers would have to be taken off the grid and put back on. A residual stream that norms read stays in float.
_BETWEEN = {
    keras.layers.Add: "ADD",
    keras.layers.Multiply: "MUL",
    keras.layers.Concatenate: "CONCATENATION",
    keras.layers.GlobalAveragePooling2D: "MEAN",
}

# TensorFlow Lite computes a ReLU together with these.
_WITH_CLAMP = (
    keras.layers.Dense,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Add,
    keras.layers.Multiply,
)
_CLAMPS = (keras.activations.relu, keras.activations.relu6)

# What only moves numbers: its output is on the int8 grid if its input is.
_SAME_SIZE = (
    "Reshape",
    "Permute",
    "Flatten",
    "ZeroPadding2D",
    "Transpose",
    "Swapaxes",
    "Squeeze",
    "ExpandDims",
    "Unfold",
    "Fold",
)
_SMALLER = ("GetItem", "TokenPooling", "Cropping1D", "Cropping2D")


def is_layout(operation) -> bool:
    """Whether a layer or operation only moves numbers, and adds at most zeros."""
    return type(operation).__name__ in (*_SAME_SIZE, *_SMALLER)


def activation_of(operation):
    """The function of a layer that is an activation and nothing else; None for any other."""
    if isinstance(operation, keras.layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return {None: keras.activations.relu, 6.0: keras.activations.relu6}.get(operation.max_value) if plain else None
    return operation.activation if isinstance(operation, keras.layers.Activation) else None


def operator_of(operation) -> str | None:
    """The TensorFlow Lite operator of an operation that may compute in int8, PRODUCT for all products; or None."""
    if isinstance(operation, PRODUCTS):
        return PRODUCT
    if activation_of(operation) is keras.activations.sigmoid:
        return "LOGISTIC"
    return _BETWEEN.get(type(operation))


def is_clamp(operation) -> bool:
    """Whether a layer is a ReLU or ReLU6."""
    return activation_of(operation) in _CLAMPS


class Plan:
    """What is int8 in a flat model.

    Attributes:
        int8: Names of the operations that compute in int8. A product with an operand that is the same for every image
            is not among them: the file holds that operand as a constant, and the CPU delegate refuses such a product.
        clamps: Names of the ReLUs that a file computes together with the operation before them.
        early: Names of the layout operations that lead to int8 operations only, so that they can move int8 numbers.
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
        # Dropping one may cost its neighbours their place too.
        while drop := {name for name in self.int8 if not self._belongs(self._operations[name])}:
            self.int8 -= drop
        self.clamps = {name for name in self.clamps if self._before(name).name in self.int8}
        self.early = {
            name
            for name, operation in self._operations.items()
            if type(operation).__name__ in _SAME_SIZE and all(map(self._ends_in_int8, self._uses[name]))
        }

    def gives_grid(self, name: str) -> bool:
        """Whether an operation's output is int8 on a grid of its own: an int8 operation's, or its ReLU's."""
        users = self._uses[name]
        if len(users) == 1 and users[0] is not None:
            if users[0].name in self.clamps:
                return False  # That output never exists.
            if isinstance(users[0], keras.layers.Concatenate) and users[0].name in self.int8:
                # A concatenation has one grid for all. A sigmoid's is fixed.
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
    """Names of the operations that see no image, only learned tokens."""
    constant = set()
    for operation in flat.operations:  # Each one after those that it takes from.
        before = [producer(tensor).name for tensor in inputs_of(operation)]
        if isinstance(operation, LearnedTokens) or (before and constant.issuperset(before)):
            constant.add(operation.name)
    return constant
