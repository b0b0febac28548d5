"""LARS: momentum with a learning rate for each layer."""

import keras
from keras import ops

from keras_vit.training.adam import norm_ratio
from keras_vit.training.base_optimizer import Optimizer


@keras.saving.register_keras_serializable("keras_vit")
class LARS(Optimizer):
    """LARS (You et al., arXiv 1708.03888, algorithm 1).

    local_rate = trust * |w| / (|gradient| + weight_decay * |w|)
    velocity <- momentum * velocity + learning_rate * local_rate * (gradient + weight_decay * w)
    w <- w - velocity

    Where one of the norms is 0, their ratio is 1. A variable that is left out of weight decay has the local rate 1.

    Args:
        learning_rate: A number or a schedule.
        momentum: Part of the velocity that stays.
        trust: How far a weight may go in a step, as a part of its norm.
        kwargs: See `Optimizer`.
    """

    def __init__(self, learning_rate=0.1, *, momentum: float = 0.9, trust: float = 1e-3, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum
        self.trust = trust

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")

    def descend(self, index, variable, gradient, learning_rate):
        factor = self.weight_decay_factor(index)
        if factor:
            decay = self.weight_decay * factor
            norm = ops.norm(variable)
            learning_rate = learning_rate * self.trust * norm_ratio(norm, ops.norm(gradient) + decay * norm)
            gradient = gradient + decay * variable
        velocity = self._velocities[index]
        self.assign(velocity, self.momentum * velocity + learning_rate * gradient)
        self.assign_sub(variable, velocity)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "trust": self.trust}
