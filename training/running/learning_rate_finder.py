"""Find a good learning rate with the learning rate range test."""

import contextlib
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vit.inspection import figures
from keras_vit.training.data import ImageData
from keras_vit.utils.files import replacing


@dataclass(frozen=True)
class RangeTest:
    """The result of a learning rate range test.

    Attributes:
        rates: The learning rate of each update, in increasing order.
        losses: The loss before each update, averaged over the batches of the update.
        smoothing: The decay of the moving average of the losses.
        diverged: Whether the test ended because the loss diverged rather than at the highest rate.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothing: float
    diverged: bool

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The exponential moving average of the losses, with bias correction."""
        return tuple(_smoothed(self.losses, self.smoothing))

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate with the lowest smoothed loss, or None if that loss is not below the first loss.

        At the rate with the lowest loss, training is about to diverge, so a good learning rate is lower.
        """
        lowest = int(np.argmin(self.smoothed))
        return self.rates[lowest] / 10 if self.smoothed[lowest] < self.losses[0] else None

    def to_dict(self) -> dict:
        """Return the results as a JSON-serializable dictionary."""
        return {
            "suggestion": self.suggestion,
            "diverged": self.diverged,
            "smoothing": self.smoothing,
            "rates": list(self.rates),
            "losses": list(self.losses),
            "smoothed": list(self.smoothed),
        }

    def save(self, folder: str | Path) -> Path:
        """Write learning_rate.json and learning_rate.png to a folder, and return its path.

        Raises:
            ImportError: If matplotlib is not installed.
            OSError: If the folder can't be written.
        """
        folder = Path(folder)
        figure = figures.learning_rate_figure(self.rates, self.losses, self.smoothed, self.suggestion)
        with replacing(folder / "learning_rate.json") as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        with replacing(folder / "learning_rate.png") as partial:
            figure.savefig(partial, dpi=150)
        return folder

    def __str__(self) -> str:
        tried = f"{len(self.rates)} learning rates from {self.rates[0]:.3g} to {self.rates[-1]:.3g}"
        end = ", where the loss diverged" if self.diverged else ""
        if self.suggestion is None:
            return f"{tried}{end}. No rate is suggested, because the loss never decreased."
        return f"{tried}{end}. Suggested rate: {self.suggestion:.3g}, a tenth of the one with the lowest smoothed loss."


def find_learning_rate(
    model: keras.Model,
    data: tf.data.Dataset | ImageData,
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    divergence: float = 4.0,
) -> RangeTest:
    """Find a learning rate by training at exponentially increasing rates (Smith, arXiv 1506.01186, section 3.3).

    The test ends at the highest rate, or earlier if the loss diverges: if the smoothed loss exceeds `divergence` times
    its lowest value, or if the loss is NaN or infinite. Afterwards, all state is restored exactly: weights, statistics,
    the optimizer's state, metrics and random states (including those of Python and NumPy).

    The test calls `model.fit`, so it uses the model's strategy, `use_sam`, `distill` and loss scaling. It replaces
    the learning rate or schedule of the optimizer. Factors of the learning rate, such as layer decay, still apply. If
    the optimizer accumulates gradients, each update takes several batches.

    Args:
        model: A model that is compiled with the loss and the optimizer you want to train with.
        data: The batches to train on. They are repeated if necessary.
        lowest: The first learning rate.
        highest: The last learning rate.
        steps: The number of updates from `lowest` to `highest`.
        smoothing: The decay of the moving average of the loss, in [0, 1).
        divergence: The ratio of the smoothed loss to its lowest value at which the test ends, above 1.

    Returns:
        The rates, the losses and the suggested learning rate.

    Raises:
        TypeError: If `data` is neither a dataset nor `ImageData`.
        ValueError: If the model is not compiled, a setting is out of range, there are no batches, or the first loss is
            not finite.
    """
    if not 0 < lowest < highest or steps < 2 or not 0 <= smoothing < 1 or divergence <= 1:
        raise ValueError(
            "Settings must satisfy 0 < lowest < highest, steps >= 2, 0 <= smoothing < 1 and divergence > 1; received "
            f"lowest={lowest}, highest={highest}, steps={steps}, smoothing={smoothing}, divergence={divergence}."
        )
    if not getattr(model, "compiled", False):
        raise ValueError(f"{model.name} is not compiled; compile it as you would for training.")
    if not isinstance(data, tf.data.Dataset | ImageData):
        raise TypeError(f"data must be a tf.data.Dataset of batches or ImageData; received {type(data).__name__}.")
    batches = data.for_model(model).epochs() if isinstance(data, ImageData) else data.repeat()
    if batches.cardinality() == 0:
        raise ValueError("The data has no batches.")
    per_update = _batches_per_update(model.optimizer)
    rates = np.geomspace(lowest, highest, steps)
    with _restored_at_the_end(model), _settable_rate(model) as rate:
        test = _Sweep(rates, per_update, rate, smoothing, divergence)
        model.fit(batches, steps_per_epoch=steps * per_update, epochs=1, shuffle=False, verbose=0, callbacks=[test])
    if not test.losses:
        raise ValueError(f"The loss is {test.last} before the first update, so no learning rate can be found.")
    return RangeTest(
        tuple(map(float, rates[: len(test.losses)])), tuple(test.losses), smoothing, diverged=test.diverged
    )


class _Sweep(keras.callbacks.Callback):
    """Set the learning rate before each update, and record the mean loss of its batches."""

    def __init__(self, rates, per_update, rate, smoothing, divergence):
        super().__init__()
        self.rates, self.per_update, self.rate = rates, per_update, rate
        self.smoothing, self.divergence = smoothing, divergence
        self.losses, self.diverged, self.last = [], False, None

    def on_train_batch_begin(self, batch, logs=None):
        if batch % self.per_update == 0:
            self.model.reset_metrics()
            self.rate.assign(self.rates[batch // self.per_update])

    def on_train_batch_end(self, batch, logs=None):
        if (batch + 1) % self.per_update:
            return
        # This is the loss over all replicas and workers, which must all stop at the same step.
        self.last = float(self.model.get_metrics_result()["loss"])
        if math.isfinite(self.last):
            self.losses.append(self.last)
            smoothed = list(_smoothed(self.losses, self.smoothing))
            self.diverged = smoothed[-1] > self.divergence * min(smoothed)
        else:
            self.diverged = True
        self.model.stop_training = self.diverged


def _smoothed(losses, smoothing):
    average = 0.0
    for step, loss in enumerate(losses, start=1):
        average = smoothing * average + (1 - smoothing) * loss
        yield average / (1 - smoothing**step)


def _batches_per_update(optimizer):
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(optimizer, "accumulation_steps", None) or optimizer.gradient_accumulation_steps or 1


class _VariableRate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that returns the current value of a variable."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate.value


@contextlib.contextmanager
def _settable_rate(model):
    """Yield a variable that sets the optimizer's learning rate within this context, replacing any schedule."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    before = optimizer._learning_rate
    execution = model.steps_per_execution
    model.steps_per_execution, model.train_function = 1, None
    try:
        if isinstance(before, keras.Variable):
            yield before
        else:
            with model.distribute_strategy.scope():
                rate = keras.Variable(0.0, trainable=False, name="learning_rate")
            optimizer.learning_rate = _VariableRate(rate)
            yield rate
    finally:
        if not isinstance(before, keras.Variable):
            optimizer.learning_rate = before
        model.steps_per_execution, model.train_function = execution, None


@contextlib.contextmanager
def _restored_at_the_end(model):
    """Restore the state of the model, its optimizer, its metrics and the random generators at the end."""
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    values = [keras.ops.convert_to_numpy(variable) for variable in variables]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        model.reset_metrics()  # Some metrics may have been created meanwhile.
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        random.setstate(python)
        np.random.set_state(numpy)
        model.stop_training = False
