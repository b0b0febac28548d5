"""AdamW and LAMB: optimizers that divide the mean gradient by the root of the mean squared gradient."""

import keras
from keras import ops

from keras_vit.training.optimizers.base import LearningRate, Optimizer, norm, norm_ratio


class Adam(Optimizer):
    """Base class of the optimizers that use the moments of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1).

    Args:
        learning_rate: A number or a schedule.
        beta_1: The decay of the mean of the gradients.
        beta_2: The decay of the mean of the squared gradients.
        epsilon: A constant that is added to the root of the bias-corrected mean square. (Keras' Adam and AdamW add it
            before the bias correction. At the first step with beta_2 = 0.999, this is equivalent to an epsilon 32
            times as large.)
        kwargs: Further arguments of `Optimizer`.
    """

    def __init__(
        self, learning_rate: LearningRate, *, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float, **kwargs
    ):
        super().__init__(learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def direction(self, index: int, gradient):
        """Update the moments with a gradient, and return the bias-corrected mean divided by the root mean square."""
        updates = ops.cast(self.iterations + 1, gradient.dtype)
        momentum, velocity = self._momentums[index], self._velocities[index]
        self.assign_add(momentum, (gradient - momentum) * (1.0 - self.beta_1))
        self.assign_add(velocity, (ops.square(gradient) - velocity) * (1.0 - self.beta_2))
        mean = momentum / (1.0 - ops.power(self.beta_1, updates))
        square = velocity / (1.0 - ops.power(self.beta_2, updates))
        return mean / (ops.sqrt(square) + self.epsilon)

    def get_config(self):
        config = super().get_config()
        return {**config, "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("keras_vit")
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2).

    w <- w - learning_rate * (direction + weight_decay * w)

    `direction` is Adam's bias-corrected mean gradient divided by the root of the bias-corrected mean square.

    Args:
        learning_rate: A number or a schedule.
        epsilon: A constant that is added to the root of the bias-corrected mean square.
        kwargs: `beta_1` (default 0.9), `beta_2` (default 0.999), and the arguments of `Optimizer`.
    """

    def __init__(self, learning_rate: LearningRate = 1e-3, *, epsilon: float = 1e-8, **kwargs):
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)

    def descend(self, index, variable, gradient, learning_rate):
        decay = self.current_weight_decay(index)
        self.assign_sub(variable, learning_rate * (self.direction(index, gradient) + decay * variable))


@keras.saving.register_keras_serializable("keras_vit")
class LAMB(Adam):
    """LAMB (You et al., arXiv 1904.00962, algorithm 2): scale each variable's step to the norm of the variable.

    update = direction + weight_decay * w
    w <- w - learning_rate * |w| / |update| * update

    `direction` is that of `AdamW`. The ratio of the norms is 1 if one of them is 0, and for a variable without weight
    decay, as in the authors' code for BERT. (Keras' Lamb excludes the weight decay from the norm and from the scaling.)

    Args:
        learning_rate: A number or a schedule.
        epsilon: A constant that is added to the root of the bias-corrected mean square.
        kwargs: `beta_1` (default 0.9), `beta_2` (default 0.999), and the arguments of `Optimizer`.
    """

    def __init__(self, learning_rate: LearningRate = 1e-3, *, epsilon: float = 1e-6, **kwargs):
        super().__init__(learning_rate, epsilon=epsilon, **kwargs)

    def descend(self, index, variable, gradient, learning_rate):
        factor = self.weight_decay_factor(index)
        update = self.direction(index, gradient) + self.current_weight_decay(index) * variable
        if factor:
            learning_rate = learning_rate * norm_ratio(norm(variable), norm(update))
        self.assign_sub(variable, learning_rate * update)
