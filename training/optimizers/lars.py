"""LARS: SGD with momentum and a learning rate for each variable."""

import keras

from keras_vit.training.optimizers.base import LearningRate, Optimizer, norm, norm_ratio


@keras.saving.register_keras_serializable("keras_vit")
class LARS(Optimizer):
    """LARS (You et al., arXiv 1708.03888, algorithm 1).

    local_rate = trust * |w| / (|gradient| + weight_decay * |w|)
    velocity <- momentum * velocity + learning_rate * local_rate * (gradient + weight_decay * w)
    w <- w - velocity

    The ratio of the norms is 1 if one of them is 0. The local rate of a variable without weight decay is 1.

    Args:
        learning_rate: A number or a schedule.
        momentum: The fraction of the velocity that is kept at each step.
        trust: The trust coefficient: the length of a step relative to the norm of the weights.
        kwargs: Further arguments of `Optimizer`.
    """

    def __init__(self, learning_rate: LearningRate = 0.1, *, momentum: float = 0.9, trust: float = 1e-3, **kwargs):
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
            decay = self.current_weight_decay(index)
            length = norm(variable)
            learning_rate = learning_rate * self.trust * norm_ratio(length, norm(gradient) + decay * length)
            gradient = gradient + decay * variable
        velocity = self._velocities[index]
        self.assign(velocity, self.momentum * velocity + learning_rate * gradient)
        self.assign_sub(variable, velocity)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "trust": self.trust}
