"""Sharpness-aware minimization around any optimizer: take the gradient where the loss nearby is highest."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import ops

from keras_vit.training.optimizers.base import summed_over_replicas
from keras_vit.training.steps.step import Override, StepOptions, change_step


def use_sam(
    model: keras.Model, rho: float = 0.05, *, adaptive: bool = False, eta: float = 0.01, per_replica: bool = False
) -> None:
    """Train by SAM (Foret et al., arXiv 2010.01412) or ASAM (Kwon et al., arXiv 2102.11600) in `model.fit`.

    Compile the model with any optimizer, fit and save it as usual. A loaded or cloned model trains without SAM, and
    `restore_step` undoes it. A step takes twice the time: a first pass on the batch gives the gradient g, a second one
    the gradient at w + e, which the optimizer gets.

    SAM:  e = rho * g / |g|
    ASAM: e = rho * t ** 2 * g / |t * g|   with t = |w| + eta, element by element

    The norm is taken over all trainable variables. Both passes use the same random numbers. The statistics of batch
    normalization and the metrics come from the first pass alone. The weights themselves are never moved, so nothing has
    to be restored, and an invalid gradient doesn't affect them.

    Args:
        model: A built model without a training step of its own.
        rho: Radius of the neighborhood. ASAM needs about ten times that of SAM.
        adaptive: Use ASAM instead of SAM.
        eta: Smallest scale of a weight in ASAM.
        per_replica: Under a strategy, compute e on each replica from its part of the batch, as the authors of SAM do
            (section 4.1, "m-sharpness"). By default there is one e for the whole batch, so that the result does not
            depend on the number of replicas.

    Raises:
        ValueError: rho or eta is out of range.
        TypeError: The model's class has a training step of its own, which SAM's would replace.
    """
    if type(model).train_step is not keras.Model.train_step:
        raise TypeError(f"{type(model).__name__} has a train_step of its own, which SAM's would replace.")
    change_step(model, sam=SAM(rho, adaptive=adaptive, eta=eta, per_replica=per_replica))


@dataclass(frozen=True)
class SAM:
    """The option of a training step that `use_sam` sets, whose arguments these are."""

    rho: float = 0.05
    adaptive: bool = False
    eta: float = 0.01
    per_replica: bool = False

    def __post_init__(self):
        if self.rho <= 0 or self.eta < 0:
            raise ValueError(f"rho must be above 0 and eta at least 0; received rho={self.rho}, eta={self.eta}.")

    def overrides(self, model: keras.Model, options: StepOptions) -> Iterator[Override]:
        yield Override(model, "train_step", lambda data: self._train_step(model, data))

    def _train_step(self, model, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        weights = model.trainable_variables
        # The second pass starts from the statistics and random states before the first one.
        states = [(state, tf.identity(state.value)) for state in model.non_trainable_variables]
        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss = model.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, weights)
        _update_loss_metric(model, loss, x)

        if not self.per_replica:
            gradients = summed_over_replicas(gradients)
        perturbed = self._perturbed(weights, gradients)
        # Within the scope, variables have these values, and assignments to them are dropped at its end.
        with tf.GradientTape() as tape, keras.StatelessScope([*zip(weights, perturbed, strict=True), *states]):
            tape.watch(perturbed)
            perturbed_pred = model(x, training=True)
            loss = model.compute_loss(x, y, perturbed_pred, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, perturbed)
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return model.compute_metrics(x, y, y_pred, sample_weight)

    def _perturbed(self, weights, gradients):
        """Return w + e for each weight."""
        scales = [ops.abs(weight) + self.eta if self.adaptive else 1.0 for weight in weights]
        scaled = [
            None if gradient is None else scale * tf.convert_to_tensor(gradient)
            for scale, gradient in zip(scales, gradients, strict=True)
        ]
        norm = tf.linalg.global_norm(scaled)
        return [
            tf.identity(weight.value) if step is None else weight + scale * step * tf.math.divide_no_nan(self.rho, norm)
            for weight, scale, step in zip(weights, scales, scaled, strict=True)
        ]


def _update_loss_metric(model, loss, x):
    # As Keras' own step does. A replica's loss is its part of the mean over all of them.
    tracker = next(metric for metric in model.metrics if metric.name == "loss")
    images = ops.shape(keras.tree.flatten(x)[0])[0]
    tracker.update_state(loss * tf.distribute.get_strategy().num_replicas_in_sync, sample_weight=images)
