"""Learning rate schedules of the published recipes. They depend only on the step, so training can be resumed."""

import math

import keras
from keras import ops


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `learning_rate`, followed by the decay that a subclass defines.

    Steps are updates of the weights, counted from 0. After `total_steps`, the rate stays constant.

    Args:
        learning_rate: The highest learning rate, which is reached at the end of the warm-up.
        total_steps: The total number of steps of the warm-up and the decay.
        warmup_steps: The number of steps of the warm-up.
        warmup_learning_rate: The learning rate at the first step of the warm-up.

    Raises:
        ValueError: If the warm-up is not shorter than `total_steps`, or a rate is negative.
    """

    def __init__(
        self, learning_rate: float, total_steps: int, warmup_steps: int = 0, *, warmup_learning_rate: float = 0.0
    ):
        super().__init__()
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                "The warm-up must have at least 0 steps and be shorter than the training; "
                f"received {warmup_steps} of {total_steps} steps."
            )
        if min(learning_rate, warmup_learning_rate) < 0:
            raise ValueError(
                "Learning rates must be at least 0; "
                f"received learning_rate={learning_rate}, warmup_learning_rate={warmup_learning_rate}."
            )
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.warmup_learning_rate = warmup_learning_rate

    def __call__(self, step):
        step = ops.minimum(ops.cast(step, "float32"), self.total_steps)
        decayed = self.decayed(ops.maximum(step - self.warmup_steps, 0.0))
        if not self.warmup_steps:
            return decayed
        # Interpolate from the low end, so that rounding can't make the rate negative.
        rise = (self.learning_rate - self.warmup_learning_rate) / self.warmup_steps
        return ops.where(step < self.warmup_steps, self.warmup_learning_rate + rise * step, decayed)

    def decayed(self, steps):
        """Return the rate at a number of steps (float32) after the end of the warm-up."""
        raise NotImplementedError

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "warmup_learning_rate": self.warmup_learning_rate,
        }


class _Decay(Schedule):
    """Decay from the highest rate to `final_learning_rate`."""

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        *,
        warmup_learning_rate: float = 0.0,
        final_learning_rate: float = 0.0,
    ):
        super().__init__(learning_rate, total_steps, warmup_steps, warmup_learning_rate=warmup_learning_rate)
        if not 0 <= final_learning_rate <= learning_rate:
            raise ValueError(
                "The final learning rate must be at least 0 and at most the highest one; "
                f"received final_learning_rate={final_learning_rate}, learning_rate={learning_rate}."
            )
        self.final_learning_rate = final_learning_rate

    def decayed(self, steps):
        part = self.remaining(steps / (self.total_steps - self.warmup_steps))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * part

    def remaining(self, progress):
        """Return the remaining fraction of the decay, from 1 to 0, for a progress in [0, 1]."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "final_learning_rate": self.final_learning_rate}


@keras.saving.register_keras_serializable("keras_vit")
class Cosine(_Decay):
    """Linear warm-up, then cosine decay to `final_learning_rate` (SGDR, arXiv 1608.03983, without restarts).

    Args:
        learning_rate: The highest learning rate, which is reached at the end of the warm-up.
        total_steps: The total number of steps of the warm-up and the decay. Steps are updates of the weights.
        warmup_steps: The number of steps of the warm-up.
        warmup_learning_rate: The learning rate at the first step of the warm-up.
        final_learning_rate: The learning rate at the end of the decay, and after it.

    Raises:
        ValueError: If the warm-up is not shorter than `total_steps`, or a rate is out of range.
    """

    def remaining(self, progress):
        return 0.5 * (1.0 + ops.cos(math.pi * progress))


@keras.saving.register_keras_serializable("keras_vit")
class Linear(_Decay):
    """Linear warm-up, then linear decay to `final_learning_rate`.

    Args:
        learning_rate: The highest learning rate, which is reached at the end of the warm-up.
        total_steps: The total number of steps of the warm-up and the decay. Steps are updates of the weights.
        warmup_steps: The number of steps of the warm-up.
        warmup_learning_rate: The learning rate at the first step of the warm-up.
        final_learning_rate: The learning rate at the end of the decay, and after it.

    Raises:
        ValueError: If the warm-up is not shorter than `total_steps`, or a rate is out of range.
    """

    def remaining(self, progress):
        return 1.0 - progress


@keras.saving.register_keras_serializable("keras_vit")
class InverseSquareRoot(Schedule):
    """Linear warm-up, then inverse square root decay, with a linear cool-down to zero at the end.

    After the warm-up, the rate is learning_rate / sqrt(1 + steps / timescale), as in "Scaling Vision Transformers"
    (arXiv 2106.04560, section 3.5). It does not depend on the length of the training until the cool-down starts, so
    models with different training lengths can branch off from a single run.

    Args:
        learning_rate: The highest learning rate, which is reached at the end of the warm-up.
        total_steps: The total number of steps. Steps are updates of the weights.
        warmup_steps: The number of steps of the warm-up.
        warmup_learning_rate: The learning rate at the first step of the warm-up.
        timescale: The number of steps after the warm-up in which the rate decays by a factor of sqrt(2).
        cooldown_steps: The number of steps at the end during which the rate is also multiplied by a factor that
            decreases linearly to 0.

    Raises:
        ValueError: If the warm-up is not shorter than `total_steps`, or a value is out of range.
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        *,
        warmup_learning_rate: float = 0.0,
        timescale: int = 10_000,
        cooldown_steps: int = 0,
    ):
        super().__init__(learning_rate, total_steps, warmup_steps, warmup_learning_rate=warmup_learning_rate)
        if timescale < 1 or not 0 <= cooldown_steps <= total_steps - warmup_steps:
            raise ValueError(
                f"timescale must be at least 1 step, and the cool-down at most the {total_steps - warmup_steps} steps "
                f"after the warm-up; received timescale={timescale}, cooldown_steps={cooldown_steps}."
            )
        self.timescale = timescale
        self.cooldown_steps = cooldown_steps

    def decayed(self, steps):
        rate = self.learning_rate / ops.sqrt(1.0 + steps / self.timescale)
        if not self.cooldown_steps:
            return rate
        left = self.total_steps - self.warmup_steps - steps
        return rate * ops.minimum(1.0, left / self.cooldown_steps)

    def get_config(self):
        return {**super().get_config(), "timescale": self.timescale, "cooldown_steps": self.cooldown_steps}
