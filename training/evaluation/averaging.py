"""Putting the moving average of the weights, which the optimizer keeps, into the model for a while."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """While open, the trainable weights of a compiled model are their moving average; then they are again what they
    were, bit by bit.

    Without an average (see `ema_decay` of `optimizer`), or before the first update, nothing changes. Statistics of
    BatchNormalization, which are moving averages themselves, stay as they are.
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
    """Lets `model.fit` and `model.evaluate` measure validation with the moving average of the weights.

    (Keras' SwapEMAWeights swaps by adding and subtracting, which changes the weights by rounding errors.)
    """

    def on_test_begin(self, logs=None):
        self._open = contextlib.ExitStack()
        self._open.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        self._open.close()
