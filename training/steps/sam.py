"""Sharpness-aware minimization, around any optimizer: the gradient is taken where the loss nearby is highest."""

import keras
import tensorflow as tf
from keras import ops

from keras_vit.training.optimizers.base import summed_over_replicas


def use_sam(
    model: keras.Model, rho: float = 0.05, *, adaptive: bool = False, eta: float = 0.01, per_replica: bool = False
) -> None:
    """Makes `model.fit` train by SAM (Foret et al., arXiv 2010.01412) or ASAM (Kwon et al., arXiv 2102.11600).

    The model stays what it was: compile it with any optimizer, fit and save it as always; a loaded or cloned model
    trains without SAM. A step takes twice the time: a first pass on the batch gives the gradient g, a second one the
    gradient at w + e, which is what the optimizer gets.

    SAM:  e = rho * g / |g|
    ASAM: e = rho * t ** 2 * g / |t * g|   with t = |w| + eta, number by number

    The norm is over all trainable variables. Both passes have the same random numbers, and statistics of
    BatchNormalization and the metrics come from the first one alone. The weights themselves are never moved, so that
    nothing must be put back and a spoilt gradient stays without effect on them.

    Args:
        model: A built model without a training step of its own.
        rho: Radius of the neighbourhood. ASAM's is about ten times SAM's.
        adaptive: ASAM in place of SAM.
        eta: ASAM's least scale of a weight.
        per_replica: Under a strategy, let each replica take its own e from its part of the batch, as SAM's authors
            do (section 4.1, "m-sharpness"). By default there is one e for the whole batch, so that the result does
            not depend on the number of replicas.

    Raises:
        ValueError: rho or eta is out of range.
        TypeError: The model's class has a training step of its own, which SAM's would replace.
    """
    if rho <= 0 or eta < 0:
        raise ValueError(f"rho is above 0 and eta at least 0; received rho={rho}, eta={eta}.")
    if type(model).train_step is not keras.Model.train_step:
        raise TypeError(f"{type(model).__name__} has a train_step of its own, which SAM's would replace.")

    def train_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        weights = model.trainable_variables
        # Statistics and random states before the first pass, for the second to begin with.
        states = [(state, tf.identity(state.value)) for state in model.non_trainable_variables]
        with tf.GradientTape() as tape:
            y_pred = model(x, training=True)
            loss = model.compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, weights)
        _track(model, loss, x)

        if not per_replica:
            gradients = summed_over_replicas(gradients)
        moved = _moved(weights, gradients, rho, eta if adaptive else None)
        # Within the scope, variables have these values, and what is assigned to them goes nowhere.
        with tf.GradientTape() as tape, keras.StatelessScope([*zip(weights, moved, strict=True), *states]):
            tape.watch(moved)
            moved_pred = model(x, training=True)
            loss = model.compute_loss(x, y, moved_pred, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, moved)
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return model.compute_metrics(x, y, y_pred, sample_weight)

    model.train_step = train_step
    # A step that was compiled before is forgotten.
    model.train_function = None


def _moved(weights, gradients, rho, eta):
    scales = [1.0 if eta is None else ops.abs(weight) + eta for weight in weights]
    scaled = [
        None if gradient is None else scale * tf.convert_to_tensor(gradient)
        for scale, gradient in zip(scales, gradients, strict=True)
    ]
    norm = tf.linalg.global_norm(scaled)
    return [
        tf.identity(weight.value) if step is None else weight + scale * step * tf.math.divide_no_nan(rho, norm)
        for weight, scale, step in zip(weights, scales, scaled, strict=True)
    ]


def _track(model, loss, x):
    # As Keras' own step does. A replica's loss is its part of the mean over all of them.
    tracker = next(metric for metric in model.metrics if metric.name == "loss")
    images = ops.shape(keras.tree.flatten(x)[0])[0]
    tracker.update_state(loss * tf.distribute.get_strategy().num_replicas_in_sync, sample_weight=images)
