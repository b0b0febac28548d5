"""Keras callbacks that stop at an invalid loss, save the best model and log each epoch.

`keras_vit.training.fit` uses these callbacks, and they work with any `model.fit`. A callback with a state has
`get_state`, which returns it as JSON-serializable values, and `set_state`, which restores it. `TrainingCheckpoint`
saves these states. With several workers, only the chief writes files, and all workers have the same states.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vit.training.distribution.strategy import is_chief
from keras_vit.training.evaluation.averaging import averaged_weights
from keras_vit.utils.files import replacing
from keras_vit.utils.missing import needs


def learning_rate_of(model: keras.Model) -> float:
    """Return the learning rate of the next step; the optimizer's rate may be a number or a schedule."""
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def first_not_finite(variables: list[keras.Variable]) -> str | None:
    """Return the path of the first variable that contains a NaN or an infinity, or None if there is none."""
    for variable in variables:
        if keras.backend.is_float_dtype(variable.dtype):
            values = keras.ops.convert_to_numpy(variable)
            if not np.isfinite(values).all():
                return variable.path
    return None


class StopAtNonFiniteLoss(keras.callbacks.Callback):
    """Raise a FloatingPointError as soon as the training or validation loss is NaN or infinite.

    Keras' own `TerminateOnNaN` ends `fit` without an error, so the program continues with NaN weights.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._step = 0

    def on_train_batch_end(self, batch, logs=None):
        self._step = batch + 1
        self._check(logs, "loss")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs, "val_loss")

    def _check(self, logs, name):
        loss = float((logs or {}).get(name, 0.0))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The {name} is {loss} at epoch {self._epoch + 1}, step {self._step}, with the learning rate "
                f"{learning_rate_of(self.model):.3g}; lower the learning rate or lengthen the warm-up."
            )


class BestModel(keras.callbacks.Callback):
    """Save the model whenever it reaches a new best validation accuracy.

    Ties are broken by the lower validation loss. The file is replaced atomically. A model whose weights contain a NaN
    or an infinity is never saved. If the optimizer keeps a moving average of the weights, the average is saved; add
    `EvaluateAverage` to validate with the average too.

    Args:
        path: The path of the file, ending in ".keras". The optimizer is saved with the model.
        by: The names of the logs to compare, the most important first. A higher accuracy is better, and a lower value
            of any other log.

    Raises:
        ValueError: At the end of an epoch, if the logs lack one of these.
    """

    def __init__(self, path: str | Path, by: Sequence[str] = ("val_accuracy", "val_loss")):
        super().__init__()
        self.path = Path(path)
        self.by = tuple(by)
        self.best = None

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if not set(self.by) <= logs.keys():
            raise ValueError(
                f"BestModel needs {' and '.join(self.by)}: compile with metrics=['accuracy'] and pass "
                f"validation_data to fit; received {sorted(logs)}."
            )
        score = {name: float(logs[name]) for name in self.by}
        better = self.best is None or self._rank(score) > self._rank(self.best)
        if better and first_not_finite(self.model.weights) is None:
            with averaged_weights(self.model):
                if is_chief(self.model):
                    with replacing(self.path) as partial:
                        self.model.save(partial)
            self.best = score

    def _rank(self, score):
        return tuple(score[name] if name.endswith("accuracy") else -score[name] for name in self.by)

    def get_state(self) -> dict:
        return {"best": self.best}

    def set_state(self, state: dict) -> None:
        self.best = state["best"]


class EpochLog(keras.callbacks.Callback):
    """Write one line per epoch to a CSV file, and the same numbers as TensorBoard scalars.

    The CSV file is rewritten from `rows` after each epoch. `rows` is part of a checkpoint, so a resumed run neither
    repeats nor loses a line, no matter where it was interrupted.

    Args:
        csv_path: The path of the CSV file.
        tensorboard_dir: The folder for TensorBoard's event files.

    Attributes:
        rows: One dictionary per epoch: the epoch's number, counted from 1, the learning rate at its end, and the logs
            from Keras.

    Raises:
        ImportError: If TensorBoard is not installed.
    """

    def __init__(self, csv_path: str | Path, tensorboard_dir: str | Path):
        super().__init__()
        with needs("TensorBoard", "the training log", "train"):
            import tensorboard  # noqa: F401  (required by tf.summary)
        self.csv_path = Path(csv_path)
        self.tensorboard_dir = Path(tensorboard_dir)
        self.rows: list[dict] = []

    def on_train_begin(self, logs=None):
        if not is_chief(self.model):
            return
        self._writer = tf.summary.create_file_writer(str(self.tensorboard_dir))
        if self.rows:
            self._write_csv()

    def on_epoch_end(self, epoch, logs=None):
        numbers = {name: float(value) for name, value in sorted((logs or {}).items())}
        numbers["learning_rate"] = learning_rate_of(self.model)
        self.rows.append({"epoch": epoch + 1, **numbers})
        if not is_chief(self.model):
            return
        self._write_csv()
        with self._writer.as_default(step=epoch + 1):
            for name, value in numbers.items():
                tf.summary.scalar(name, value)
        # TensorFlow buffers events for two minutes. Without this, a killed run would lose them.
        self._writer.flush()

    def on_train_end(self, logs=None):
        if is_chief(self.model):
            self._writer.close()

    def _write_csv(self):
        with replacing(self.csv_path) as partial, open(partial, "w", newline="") as file:
            table = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            table.writeheader()
            table.writerows(self.rows)

    def get_state(self) -> dict:
        return {"rows": self.rows}

    def set_state(self, state: dict) -> None:
        self.rows = list(state["rows"])
