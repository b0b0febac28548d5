"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

import math

import keras
from keras import ops

from keras_vit.training.optimizers.base import LearningRate, Optimizer


@keras.saving.register_keras_serializable("keras_vit")
class SOAP(Optimizer):
    """SOAP (Vyas et al., arXiv 2409.11321, algorithms 3 and 4): Adam in the eigenbasis of Shampoo's preconditioner.

    Each variable is treated as a matrix: axes of size 1 are dropped, and all axes except the last are merged. For each
    side of the matrix, SOAP keeps a moving average of the products of the gradients (G G^T and G^T G), and an
    orthogonal basis that approximates its eigenvectors. It runs Adam with decoupled weight decay in this basis.
    Variables with one axis have no basis and use plain Adam.

    Where the paper leaves details open, this follows the authors' code: the first step computes the basis with an
    eigendecomposition and does not change the weights, and the moments are bias-corrected. Unlike in that code, the
    basis is not sorted again later.

    In addition to Adam's moments, the optimizer stores 2 * (rows ** 2 + columns ** 2) numbers per matrix.

    Args:
        learning_rate: A number or a schedule.
        beta_1: The decay of the mean of the gradients.
        beta_2: The decay of the mean of the squared gradients in the basis, and of the products of the gradients.
        epsilon: A constant that is added to the root of the bias-corrected mean square.
        frequency: The number of steps between two updates of the basis. An update is one power iteration followed by a
            QR decomposition.
        max_size: The largest side of a matrix for which a basis is kept.
        kwargs: Further arguments of `Optimizer`.

    Raises:
        ValueError: If `frequency` is less than 1, or another setting is out of range.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 3e-3,
        *,
        beta_1: float = 0.95,
        beta_2: float = 0.95,
        epsilon: float = 1e-8,
        frequency: int = 10,
        max_size: int = 10_000,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        if frequency < 1:
            raise ValueError(f"frequency must be at least 1; received frequency={frequency}.")
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.frequency = frequency
        self.max_size = max_size

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])
        self._products, self._bases = [], []
        for variable in variables:
            sizes = [size if size <= self.max_size else None for size in _matrix_shape(variable.shape)]
            if 1 in sizes:
                sizes = [None, None]
            self._products.append([self._square(size, variable, "product") for size in sizes])
            self._bases.append([self._square(size, variable, "basis") for size in sizes])

    def _square(self, size, variable, name):
        if size is None:
            return None
        return self.add_variable((size, size), dtype=variable.dtype, name=f"{variable.path.replace('/', '_')}_{name}")

    def descend(self, index, variable, gradient, learning_rate):
        shape = _matrix_shape(variable.shape)
        gradient = ops.reshape(gradient, shape)
        momentum, velocity = (ops.reshape(each[index], shape) for each in (self._momentums, self._velocities))
        updates = ops.cast(self.iterations, variable.dtype)
        # 0 in the first step, which only computes the basis.
        active = ops.minimum(updates, 1.0)
        updates = ops.maximum(updates, 1.0)

        left, right = self._bases[index]
        momentum = momentum + active * (1.0 - self.beta_1) * (gradient - momentum)
        square = ops.square(_to_basis(gradient, left, right))
        velocity = velocity + active * (1.0 - self.beta_2) * (square - velocity)
        mean = _to_basis(momentum, left, right) / (1.0 - ops.power(self.beta_1, updates))
        root = ops.sqrt(velocity / (1.0 - ops.power(self.beta_2, updates)))
        direction = _from_basis(mean / (root + self.epsilon), left, right)

        decay = self.current_weight_decay(index)
        step = ops.reshape(direction, variable.shape) + decay * variable
        self.assign(self._momentums[index], ops.reshape(momentum, variable.shape))
        self.assign(self._velocities[index], ops.reshape(velocity, variable.shape))
        self.assign_sub(variable, active * learning_rate * step)
        for side, transposed in enumerate((gradient, ops.transpose(gradient))):
            if self._bases[index][side] is not None:
                self._refine(self._products[index][side], self._bases[index][side], transposed)

    def _refine(self, product, basis, gradient):
        self.assign_add(product, (ops.matmul(gradient, ops.transpose(gradient)) - product) * (1.0 - self.beta_2))
        product, old = ops.convert_to_tensor(product), ops.convert_to_tensor(basis)
        new = ops.cond(
            self.iterations == 0,
            # The power iteration keeps the order of the columns only if the eigenvalues are in descending order.
            lambda: ops.flip(ops.eigh(product)[1], axis=1),
            lambda: ops.cond(
                self.iterations % self.frequency == 0,
                lambda: ops.qr(ops.matmul(product, old))[0],
                lambda: old,
            ),
        )
        self.assign(basis, new)

    def get_config(self):
        config = super().get_config()
        names = ("beta_1", "beta_2", "epsilon", "frequency", "max_size")
        return {**config, **{name: getattr(self, name) for name in names}}


def _matrix_shape(shape):
    *rows, columns = [size for size in shape if size != 1] or [1]
    return math.prod(rows), columns


def _to_basis(matrix, left, right):
    matrix = matrix if left is None else ops.matmul(ops.transpose(left), matrix)
    return matrix if right is None else ops.matmul(matrix, right)


def _from_basis(matrix, left, right):
    matrix = matrix if left is None else ops.matmul(left, matrix)
    return matrix if right is None else ops.matmul(matrix, ops.transpose(right))
