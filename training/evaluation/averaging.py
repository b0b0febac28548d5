"""Use the moving average of the weights, which the optimizer keeps, in the model for a while."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Replace the trainable weights of a compiled model by their moving average while this context is open.

    Afterwards they are restored bit by bit. Without an average (see `ema_decay` of `optimizer`), or before the first
    update, nothing changes. The statistics of batch normalization, which are moving averages themselves, don't change.

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
    """Validate with the moving average of the weights in `model.fit` and `model.evaluate`.

    (Keras' SwapEMAWeights swaps by adding and subtracting, which changes the weights by rounding errors.)
    """

    def on_test_begin(self, logs=None):
        self._open = contextlib.ExitStack()
        self._open.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs=None):
        self._open.close()
