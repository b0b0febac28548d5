"""Freeze the ranges of a quantized model near the end of its training."""

import math

import keras

from keras_vit.edge.quantization.fake_quant import FakeQuant, WithRoundedKernel


def freeze_ranges(model: keras.Model) -> None:
    """Keep the ranges of a quantized model as they are when it is trained further.

    Ranges no longer follow the activations, and learned steps no longer change. So the last epochs adapt the weights to
    exactly the grids that the file will have. This is saved with the model.

    Args:
        model: A model returned by `quantize_aware`.

    Raises:
        ValueError: The model is not quantized.
    """
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, (FakeQuant, WithRoundedKernel))]
    if not layers:
        raise ValueError(
            f"The model {model.name!r} has no ranges to freeze: pass one that keras_vit.edge.quantize_aware returned."
        )
    if all(layer.frozen for layer in layers):
        return
    for layer in layers:
        layer.freeze()
    if model.compiled and model.train_function is not None:
        model.make_train_function(force=True)  # The compiled one updates the ranges.


class FreezeRanges(keras.callbacks.Callback):
    """Freeze the ranges of a quantized model before an epoch of its training, see `freeze_ranges`.

    Args:
        after: A fraction of all epochs, below 1, or a number of epochs.

    Raises:
        ValueError: `after` is negative, or a fraction above 1.
    """

    def __init__(self, after: float | int = 0.75):
        super().__init__()
        if isinstance(after, bool) or after < 0 or (after != int(after) and after > 1):
            raise ValueError(
                f"after must be a fraction of the epochs below 1, or a number of epochs; received {after!r}."
            )
        self.after = after

    def on_epoch_begin(self, epoch, logs=None):
        first = math.ceil(self.after * self.params["epochs"]) if self.after < 1 else self.after
        if epoch >= first:
            freeze_ranges(self.model)
