"""The base class of the optimizers. It adds per-variable factors, correct sums over replicas, and moving averages."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import keras
import tensorflow as tf
from keras import ops

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule

_LEAST_UNIT_NORM = 1e-3  # Allows weights that are initialized with zeros to change (arXiv 2102.06171, section 4.1).


class Optimizer(keras.optimizers.Optimizer):
    """The base class of the optimizers, and a mixin for Keras' optimizers.

    A subclass implements `descend`. If this class is mixed into one of Keras' optimizers, its own `descend` applies
    decoupled weight decay and then the update of that optimizer.

    Under every strategy, the result is the same as on one device with the whole batch: gradients are first summed over
    the replicas, then accumulated, then clipped. (Keras 3.15 clips the gradients of each replica separately, and its
    gradient accumulation raises an error under MirroredStrategy.)

    Args:
        learning_rate: A number or a schedule. Schedules count updates of the weights, not batches.
        weight_decay: The weight decay; see the subclass for how it is applied.
        final_weight_decay: The weight decay after `weight_decay_steps` updates, which a half cosine leads to, as in
            DINO (arXiv 2104.14294). None keeps the weight decay constant.
        weight_decay_steps: The number of updates of this schedule.
        learning_rate_factors: One factor of the learning rate for each trainable variable, in the variables' order.
        weight_decay_factors: One factor of the weight decay for each trainable variable. A variable with the factor 0
            is also excluded from anything else that applies to kernels only.
        adaptive_clip: The largest ratio of the norm of a unit's gradient to the norm of the unit's weights, for
            adaptive gradient clipping (Brock et al., arXiv 2102.06171, equation 3). Larger gradients are scaled down
            to this ratio. Weight norms below 0.001 count as 0.001. This follows all other clipping.
        clip_axes: For each trainable variable, the axes over which `adaptive_clip` takes the norm of a unit, such as
            (0,) for a dense kernel, or None to exclude the variable. By default, each variable is one unit.
        accumulation_steps: The number of batches whose gradients are averaged for one update. Moving averages,
            schedules and `iterations` count updates.
        ema_decay: The decay of an exponential moving average of the weights. The average starts with the weights after
            the first update; each further update sets it to decay * average + (1 - decay) * weights. None keeps no
            average. See `keras_vit.training.averaged_weights`.
        ema_warmup: Whether the decay starts at 0 and grows as 1 - (1 + updates) ** (-2 / 3) up to `ema_decay`.
        kwargs: Arguments of `keras.optimizers.Optimizer`: `clipnorm`, `clipvalue`, `global_clipnorm`,
            `loss_scale_factor` and `name`.

    Raises:
        ValueError: If a setting is out of range, or the number of factors or axes differs from the number of variables.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        weight_decay: float = 0.0,
        final_weight_decay: float | None = None,
        weight_decay_steps: int | None = None,
        learning_rate_factors: Sequence[float] | None = None,
        weight_decay_factors: Sequence[float] | None = None,
        adaptive_clip: float | None = None,
        clip_axes: Sequence[Sequence[int] | None] | None = None,
        accumulation_steps: int = 1,
        ema_decay: float | None = None,
        ema_warmup: bool = False,
        **kwargs,
    ):
        for theirs, ours in (("use_ema", "ema_decay"), ("gradient_accumulation_steps", "accumulation_steps")):
            if kwargs.get(theirs):
                raise ValueError(f"Use {ours} instead of {theirs}; received {theirs}={kwargs[theirs]}.")
        if accumulation_steps < 1:
            raise ValueError(
                f"accumulation_steps must be at least 1; received accumulation_steps={accumulation_steps}."
            )
        if adaptive_clip is not None and adaptive_clip <= 0:
            raise ValueError(f"adaptive_clip must be above 0; received {adaptive_clip}.")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1; received {ema_decay}.")
        if final_weight_decay is not None and (weight_decay_steps is None or weight_decay_steps < 1):
            raise ValueError(
                f"final_weight_decay needs weight_decay_steps of at least 1; received {weight_decay_steps}."
            )
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.final_weight_decay = final_weight_decay
        self.weight_decay_steps = weight_decay_steps
        self.learning_rate_factors = _as_tuple(learning_rate_factors)
        self.weight_decay_factors = _as_tuple(weight_decay_factors)
        self.adaptive_clip = adaptive_clip
        self.clip_axes = clip_axes and tuple(None if axes is None else tuple(axes) for axes in clip_axes)
        self.accumulation_steps = accumulation_steps
        self.ema_decay = ema_decay
        self.ema_warmup = ema_warmup

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        for name in ("learning_rate_factors", "weight_decay_factors", "clip_axes"):
            given = getattr(self, name)
            if given is not None and len(given) != len(variables):
                raise ValueError(
                    f"{name} has {len(given)} entries, but the model has {len(variables)} trainable variables. Create "
                    "a new optimizer after freezing or adding layers."
                )
        if self.ema_decay is not None:
            self.averages = self.add_optimizer_variables(variables, "average")
        if self.accumulation_steps > 1:
            self._sums = self.add_optimizer_variables(variables, "gradient_sum")
            self._batches = self.add_variable(
                (), dtype="int", aggregation="only_first_replica", name="accumulated_batches"
            )

    def learning_rate_factor(self, index: int) -> float:
        return 1.0 if self.learning_rate_factors is None else self.learning_rate_factors[index]

    def weight_decay_factor(self, index: int) -> float:
        return 1.0 if self.weight_decay_factors is None else self.weight_decay_factors[index]

    def current_weight_decay(self, index: int):
        """Return the weight decay of a variable at this update, which follows the schedule if there is one."""
        factor = self.weight_decay_factor(index)
        if self.final_weight_decay is None:
            return self.weight_decay * factor
        progress = ops.minimum(ops.cast(self.iterations, "float32") / self.weight_decay_steps, 1.0)
        rest = 0.5 * (1.0 + ops.cos(math.pi * progress))
        return factor * (self.final_weight_decay + (self.weight_decay - self.final_weight_decay) * rest)

    def descend(self, index: int, variable, gradient, learning_rate) -> None:
        """Update one variable.

        Args:
            index: The index of the variable among the trainable variables.
            variable: The variable.
            gradient: Its gradient.
            learning_rate: The learning rate, already multiplied by the variable's factor.
        """
        if self.weight_decay_factor(index) and (self.weight_decay or self.final_weight_decay):
            self.assign_sub(variable, variable * (learning_rate * self.current_weight_decay(index)))
        super().update_step(gradient, variable, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self.learning_rate_factor(index)
        gradient = ops.cast(gradient, variable.dtype)
        if self.adaptive_clip is not None:
            gradient = self._clipped_by_unit(index, variable, gradient)
        self.descend(index, variable, gradient, rate)
        if self.ema_decay is not None:
            average = self.averages[index]
            self.assign_add(average, (variable - average) * (1.0 - self._current_ema_decay(variable.dtype)))

    def _clipped_by_unit(self, index, variable, gradient):
        axes = tuple(range(len(variable.shape))) if self.clip_axes is None else self.clip_axes[index]
        if axes is None:
            return gradient
        highest = self.adaptive_clip * ops.maximum(norm(variable, axes), _LEAST_UNIT_NORM)
        received = norm(gradient, axes)
        return gradient * ops.where(received > highest, highest / ops.maximum(received, highest), 1.0)

    def _current_ema_decay(self, dtype):
        updates = ops.cast(self.iterations, dtype)
        if self.ema_warmup:
            return ops.minimum(self.ema_decay, 1.0 - (1.0 + updates) ** (-2 / 3))
        return ops.where(updates > 0, ops.cast(self.ema_decay, dtype), ops.cast(0.0, dtype))

    def _apply_weight_decay(self, variables):
        pass  # `descend` applies the weight decay, with the factors.

    def apply(self, grads, trainable_variables=None):
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        if not self.built:
            with keras.name_scope(self.name, caller=self):
                self.build(variables)
        grads = summed_over_replicas(list(grads))
        if self.accumulation_steps == 1:
            super().apply(grads, variables)
        else:
            tf.__internal__.distribute.interim.maybe_merge_call(
                self._accumulate, self._distribution_strategy, grads, variables
            )

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)  # `apply` has already summed them, before any nonlinear operation.

    def _accumulate(self, strategy, grads, variables):
        # `merge_call` is not allowed within a conditional in a replica, so the condition is evaluated across replicas.
        given = [(variable, grad) for variable, grad in zip(variables, grads, strict=True) if grad is not None]
        sums = [self._sums[self._get_variable_index(variable)].value for variable, _ in given]
        for total, (_, grad) in zip(sums, given, strict=True):
            strategy.extended.update(total, _add, args=(grad,), group=False)
        self._batches.value.assign_add(1)

        def apply_mean():
            means = [total / self.accumulation_steps for total in sums]
            super(Optimizer, self).apply(means, [variable for variable, _ in given])

        def update():
            if tf.distribute.in_cross_replica_context():
                strategy.extended.call_for_each_replica(apply_mean)
            else:
                apply_mean()
            for total in sums:
                strategy.extended.update(total, _clear, group=False)

        ops.cond(self._batches.value % self.accumulation_steps == 0, update, lambda: None)

    def get_config(self):
        config = super().get_config()
        for name in ("use_ema", "ema_momentum", "ema_overwrite_frequency", "gradient_accumulation_steps"):
            del config[name]
        for name in ("learning_rate_factors", "weight_decay_factors"):
            factors = getattr(self, name)
            config[name] = None if factors is None else list(factors)
        config["clip_axes"] = self.clip_axes and [None if axes is None else list(axes) for axes in self.clip_axes]
        names = ("final_weight_decay", "weight_decay_steps", "adaptive_clip")
        for name in (*names, "accumulation_steps", "ema_decay", "ema_warmup"):
            config[name] = getattr(self, name)
        return config


def _as_tuple(factors):
    return None if factors is None else tuple(float(factor) for factor in factors)


def _add(variable, value):
    variable.assign_add(tf.convert_to_tensor(value))


def _clear(variable):
    variable.assign(tf.zeros_like(variable))


def summed_over_replicas(grads: list) -> list:
    """Return the gradients summed over all replicas. Gradients that are None stay None."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return grads
    summed = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, [grad for grad in grads if grad is not None]))
    return [None if grad is None else next(summed) for grad in grads]


def norm(tensor, axes: tuple[int, ...] | None = None):
    """Return the Euclidean norm over all axes, or over the given axes, which are kept with size 1."""
    return ops.sqrt(ops.sum(ops.square(tensor), axis=axes, keepdims=axes is not None))


def norm_ratio(numerator, denominator):
    """Return the ratio of two norms, or 1 if one of them is 0."""
    both = ops.logical_and(numerator > 0, denominator > 0)
    return ops.where(both, numerator / ops.where(both, denominator, 1.0), 1.0)
