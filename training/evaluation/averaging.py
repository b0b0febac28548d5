"""Use the moving average of the weights, which the optimizer keeps, in the model temporarily."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Replace the trainable weights of a compiled model with their moving average within a context.

    The weights are restored exactly when the context ends. If the optimizer keeps no average (see the argument
    `ema_decay` of `keras_vit.training.optimizer`), or before the first update, the context does nothing. The moving
    statistics of batch normalization are not replaced.

    Args:
        model: A compiled model.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    averages = getattr(optimizer, "averages", None)
    if averages is None or not keras.ops.convert_to_numpy(optimizer.iterations):
        yield
        return
    weights = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    _assign(model.trainable_variables, averages)
    try:
        yield
    finally:
        _assign(model.trainable_variables, weights)


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class EvaluateAverage(keras.callbacks.Callback):
    """A callback that uses the moving average of the weights for validation in `model.fit` and `model.evaluate`.

    The weights are restored exactly after validation. (Keras' `SwapEMAWeights` swaps the values by adding and
    subtracting, which changes the weights by rounding errors.)
    """

    def on_test_begin(self, logs=None):
        self._open = contextlib.ExitStack()
        self._open.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        self._open.close()
