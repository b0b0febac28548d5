"""Save the complete state of a training run in one file, so that it can be resumed exactly."""

import json
from collections.abc import Sequence
from pathlib import Path

import keras
import safetensors
import safetensors.numpy

from keras_vit.training.distribution.strategy import is_chief
from keras_vit.training.running.callbacks import first_not_finite, learning_rate_of
from keras_vit.utils.files import replacing
from keras_vit.utils.plain import plain

_HEADER = "keras_vit.training"


class TrainingCheckpoint(keras.callbacks.Callback):
    """Save the complete training state every few steps and at the end of each epoch, and restore it.

    The checkpoint is a safetensors file. It contains one tensor for each variable of the model (weights, statistics
    and random states), of the optimizer (including the loss scale) and of the metrics. The header contains the epoch,
    the step, the settings and the states of other callbacks as JSON. The file is replaced atomically, and only if all
    its values are finite.

    With several workers, the chief writes the file, with the metrics of all workers, and every worker restores from
    it. All workers must therefore have access to the folder. A run can be resumed with a different number of replicas.

    Keras' `BackupAndRestore` is not sufficient to resume a run exactly:

    - It does not save the states of SeedGenerators, so dropout continues with different random numbers.
    - If a run was interrupted within an epoch, it restarts this epoch from the beginning, but with the weights from
      the middle of the epoch, and resets the metrics.
    - It overwrites its files in place, so a killed process can leave an incomplete file.
    - It saves weights that are NaN.

    Args:
        path: The path of the file, ending in ".safetensors".
        every_steps: The number of steps between two checkpoints within an epoch.
        settings: JSON-serializable settings. A run can only be resumed with equal settings.
        states_of: Callbacks with `get_state` and `set_state` whose states are saved too. They must come before this
            callback in the list of callbacks.

    Raises:
        ValueError: If `every_steps` is less than 1.
    """

    def __init__(
        self,
        path: str | Path,
        every_steps: int = 500,
        settings: dict | None = None,
        states_of: Sequence[keras.callbacks.Callback] = (),
    ):
        super().__init__()
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1; received every_steps={every_steps}.")
        self.path = Path(path)
        self.every_steps = every_steps
        self.settings = _as_json(settings or {})
        self.states_of = {type(callback).__name__: callback for callback in states_of}
        self._epoch = 0
        self._restored_metrics = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._restored_metrics is not None:
            # Keras has just reset the metrics for a new epoch, but this is the rest of an epoch that had begun.
            _assign(self.model.metrics_variables, self._restored_metrics)
            self._restored_metrics = None

    def on_train_batch_end(self, batch, logs=None):
        step = batch + 1
        if step % self.every_steps == 0 and step != self.params.get("steps"):
            self.write(self.model, self._epoch, step)

    def on_epoch_end(self, epoch, logs=None):
        self.write(self.model, epoch + 1, 0)

    def write(self, model: keras.Model, epoch: int, step: int) -> None:
        """Save the training state of a compiled model. All workers must call this at the same step.

        Args:
            model: The compiled model.
            epoch: The number of completed epochs.
            step: The number of completed steps of the next epoch.

        Raises:
            FloatingPointError: If a variable contains a NaN or an infinity. The file is not changed.
        """
        groups = _variables(model)
        spoilt = first_not_finite([variable for group in groups.values() for variable in group])
        if spoilt is not None:
            raise FloatingPointError(
                f"{spoilt} is no longer finite after epoch {epoch}, step {step} of the next (learning rate "
                f"{learning_rate_of(model):.3g}), so {self.path} was not changed; lower the learning rate "
                "or lengthen the warm-up."
            )
        # All workers read the values, because reading a metric sums over the workers.
        tensors = {
            f"{group}/{index}/{variable.path}": keras.ops.convert_to_numpy(variable)
            for group, variables in groups.items()
            for index, variable in enumerate(variables)
        }
        if not is_chief(model):
            return
        header = {
            "epoch": epoch,
            "step": step,
            "settings": self.settings,
            "callbacks": {name: callback.get_state() for name, callback in self.states_of.items()},
        }
        with replacing(self.path) as partial:
            safetensors.numpy.save_file(tensors, partial, metadata={_HEADER: json.dumps(header)})

    def restore(self, model: keras.Model) -> tuple[int, int]:
        """Restore the training state of a compiled model and of the callbacks in `states_of`.

        The metrics are restored when the next epoch begins. To resume within an epoch, the metrics must exist by then.
        Keras creates them on the first batch, so evaluate the model on one batch before you call `fit`.

        Args:
            model: The compiled model.

        Returns:
            The number of completed epochs, and the number of completed steps of the next epoch. To continue from
            there, pass the first number to `model.fit` as `initial_epoch`, with data that starts after these steps.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If the file is not a checkpoint, or belongs to other settings or another model.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"There is no checkpoint to resume from at {self.path}.")
        header, groups = self._read()
        _check_settings(self.path, header["settings"], self.settings)
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        needed = ("model", "optimizer", "metrics") if header["step"] else ("model", "optimizer")
        for group in needed:
            _check_shapes(group, variables[group], groups[group])
        for group in ("model", "optimizer"):
            _assign(variables[group], groups[group])
        self._restored_metrics = groups["metrics"] if header["step"] else None
        for name, callback in self.states_of.items():
            callback.set_state(header["callbacks"][name])
        return header["epoch"], header["step"]

    def _read(self):
        groups = {"model": {}, "optimizer": {}, "metrics": {}}
        try:
            with safetensors.safe_open(self.path, framework="numpy") as file:
                header = json.loads(file.metadata()[_HEADER])
                for key in file.keys():  # noqa: SIM118  (safe_open is not a dictionary)
                    group, index, _ = key.split("/", 2)
                    groups[group][int(index)] = file.get_tensor(key)
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is not a training checkpoint or is damaged: {error}.") from error
        return header, {group: [tensors[i] for i in sorted(tensors)] for group, tensors in groups.items()}


def _as_json(settings):
    return json.loads(json.dumps(settings, default=plain))


def _variables(model):
    # Variables are matched by position. Keras numbers automatic names per process, and paths need not be unique.
    return {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }


def _check_settings(path, then, now):
    different = [
        f"{name} was {then.get(name)!r} and is now {now.get(name)!r}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if different:
        raise ValueError(f"{path} can't be resumed, because its settings are different: {'; '.join(different)}.")


def _check_shapes(group, variables, tensors):
    if len(variables) != len(tensors):
        raise ValueError(
            f"The checkpoint belongs to another {group}: it has {len(tensors)} variables, and this one has "
            f"{len(variables)}."
        )
    for variable, tensor in zip(variables, tensors, strict=True):
        if tuple(variable.shape) != tensor.shape:
            raise ValueError(
                f"The checkpoint belongs to another {group}: {variable.path} has shape {tuple(variable.shape)} "
                f"here and {tensor.shape} in the checkpoint."
            )


def _assign(variables, tensors):
    for variable, tensor in zip(variables, tensors, strict=True):
        variable.assign(tensor)
