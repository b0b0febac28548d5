"""Display the progress, speed and remaining time of a training run."""

import sys
import time

import keras

_SECONDS_BETWEEN = 0.5  # Between two updates of the line.


class Progress(keras.callbacks.Callback):
    """Display the epoch, the step, the images per second, the remaining time of the run, and the logs from Keras.

    Args:
        batch_size: The number of images per batch.
        epochs: The number of epochs.
        steps: The number of steps per epoch.
        total_steps: The number of steps of the whole run.
        verbose: 1 updates a line during training, 2 prints a line at the end of each epoch, and 0 prints nothing.
            "auto" means 1 on a terminal and 2 otherwise.
    """

    def __init__(self, batch_size: int, epochs: int, steps: int, total_steps: int, verbose: int | str = "auto"):
        super().__init__()
        self.batch_size, self.epochs, self.steps, self.total_steps = batch_size, epochs, steps, total_steps
        self.verbose = (1 if sys.stdout.isatty() else 2) if verbose == "auto" else verbose
        self._seconds = self._steps_timed = 0  # Without validation and the first step, which compiles.

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._step, self._last = epoch, 0, None
        self._shown = 0.0

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if self._last is not None:
            self._seconds += now - self._last
            self._steps_timed += 1
        self._last, self._step = now, batch + 1
        if self.verbose == 1 and now - self._shown > _SECONDS_BETWEEN:
            self._shown = now
            print(f"\r{self.line(logs)}\x1b[K", end="", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        if self.verbose:
            start, end = ("\r", "\x1b[K") if self.verbose == 1 else ("", "")
            print(f"{start}{self.line(logs)}{end}", flush=True)

    def line(self, logs: dict | None) -> str:
        """Return the line to display."""
        parts = [f"Epoch {self._epoch + 1}/{self.epochs}", f"step {self._step}/{self.steps}"]
        if self._seconds:
            seconds = self._seconds / self._steps_timed
            left = self.total_steps - self._epoch * self.steps - self._step
            parts += [f"{self.batch_size / seconds:.3g} images/s", f"{duration(left * seconds)} left"]
        parts += [f"{name} {float(value):.4f}" for name, value in (logs or {}).items()]
        return "  ".join(parts)


def duration(seconds: float) -> str:
    """Format a duration, such as "2 d 5 h", "5 h 10 min", "3 min 20 s" or "12 s"."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    whole = round(seconds)
    place = next((place for place, (_, size) in enumerate(units) if whole >= size), len(units) - 1)
    name, size = units[place]
    shown = f"{whole // size} {name}"
    if size > 1 and (rest := whole % size // units[place + 1][1]):
        shown += f" {rest} {units[place + 1][0]}"
    return shown
