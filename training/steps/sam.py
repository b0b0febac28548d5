"""Sharpness-aware minimization with any optimizer: use the gradient at the nearby point with the highest loss."""

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
    """Train a model with SAM (Foret et al., arXiv 2010.01412) or ASAM (Kwon et al., arXiv 2102.11600) in `model.fit`.

    A step takes about twice as long: a first pass computes the gradient g at the weights w, and a second pass on the
    same batch computes the gradient at w + e, which the optimizer applies to w.

    SAM:  e = rho * g / |g|
    ASAM: e = rho * t ** 2 * g / |t * g|   with t = |w| + eta, element by element

    The norm is taken over all trainable variables. Both passes use the same random numbers. The statistics of batch
    normalization and the metrics come only from the first pass. The weights themselves are not perturbed, so they need
    not be restored, and an invalid gradient does not affect them.

    Compile the model with any optimizer, and fit and save it as usual. SAM is not saved: a loaded or cloned model
    trains without it. `restore_step` turns it off.

    Args:
        model: A built model whose class does not define its own training step.
        rho: The radius of the neighborhood. ASAM needs a radius about ten times as large as SAM.
        adaptive: Whether to use ASAM rather than SAM.
        eta: The smallest scale of a weight in ASAM.
        per_replica: Whether each replica computes e from its own part of the batch, as the authors of SAM do (section
            4.1, "m-sharpness"). By default, e is computed from the whole batch, so that the result does not depend on
            the number of replicas.

    Raises:
        ValueError: If `rho` or `eta` is out of range.
        TypeError: If the model's class defines its own training step, which SAM would replace.
    """
    if type(model).train_step is not keras.Model.train_step:
        raise TypeError(f"{type(model).__name__} defines its own train_step, which SAM would replace.")
    change_step(model, sam=SAM(rho, adaptive=adaptive, eta=eta, per_replica=per_replica))


@dataclass(frozen=True)
class SAM:
    """The option of a training step that `use_sam` sets. The attributes are the arguments of `use_sam`."""

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
        # The second pass starts from the same statistics and random states as the first one.
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
        # Within the scope, the variables have these values. Assignments to them are discarded at the end.
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
    # As in Keras' own training step. The loss of a replica is its contribution to the mean over all replicas.
    tracker = next(metric for metric in model.metrics if metric.name == "loss")
    images = ops.shape(keras.tree.flatten(x)[0])[0]
    tracker.update_state(loss * tf.distribute.get_strategy().num_replicas_in_sync, sample_weight=images)
