"""Save the whole state of a training in one file, to continue it as if it had never stopped."""

import json
from collections.abc import Sequence
from pathlib import Path

import keras
import safetensors
import safetensors.numpy

from keras_vit.training.distribution.strategy import is_chief
from keras_vit.training.running.callbacks import first_not_finite, learning_rate_of
from keras_vit.utils.files import replacing

_HEADER = "keras_vit.training"


class TrainingCheckpoint(keras.callbacks.Callback):
    """Write the state of the training every few steps and at the end of each epoch, and restore it.

    Keras' BackupAndRestore does not suffice: its file omits the state of SeedGenerators, so dropout continues with
    other random numbers; it stores the step but restarts at the beginning of the epoch, with the weights of its middle
    and with metrics from zero; it overwrites its files in place, so a killed process leaves half of one; and it stores
    weights that have become NaN.

    The file is a safetensors file: a tensor for each variable of the model (weights, statistics, random
    states), of the optimizer (of the loss scale too) and of the metrics; its header holds the epoch, the
    step, the settings and the states of other callbacks as JSON. It is replaced in one step, and only if
    every number in it is finite.

    With several workers the chief writes the file, with the metrics of all, and every worker restores it, so all
    of them must see the folder. The training can continue under another number of replicas.

    Args:
        path: The file, ending in ".safetensors".
        every_steps: Steps between two checkpoints within an epoch.
        settings: Settings that must be equal to continue, in JSON's types.
        states_of: Callbacks with `get_state` and `set_state` whose states belong to the training. They must
            come before this one in the list of callbacks.
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
            # Keras has just reset them for the new epoch, which here is the rest of an old one.
            _assign(self.model.metrics_variables, self._restored_metrics)
            self._restored_metrics = None

    def on_train_batch_end(self, batch, logs=None):
        step = batch + 1
        if step % self.every_steps == 0 and step != self.params.get("steps"):
            self.write(self.model, self._epoch, step)

    def on_epoch_end(self, epoch, logs=None):
        self.write(self.model, epoch + 1, 0)

    def write(self, model: keras.Model, epoch: int, step: int) -> None:
        """Write the state of a compiled model after `epoch` epochs and `step` steps of the next one.

        All workers call it at the same step.

        Raises:
            FloatingPointError: A variable holds a NaN or an infinity; the file keeps what it held.
        """
        groups = _variables(model)
        spoilt = first_not_finite([variable for group in groups.values() for variable in group])
        if spoilt is not None:
            raise FloatingPointError(
                f"{spoilt} is no longer finite after epoch {epoch}, step {step} of the next (learning rate "
                f"{learning_rate_of(model):.3g}), so {self.path} was not changed; lower the learning rate "
                "or lengthen the warm-up."
            )
        # In every worker, since a metric is the sum of the workers' own.
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
        """Restore the state of a compiled model and of the callbacks of `states_of` from the file.

        Metrics get theirs when the epoch begins. To continue within an epoch they must exist by then:
        evaluate the model on a batch before, since Keras makes them on the first one.

        Returns:
            The number of finished epochs and of finished steps in the next one: with `initial_epoch` and data
            that begins after those steps, `model.fit` continues there.

        Raises:
            FileNotFoundError: There is no file.
            ValueError: The file is no checkpoint, has other settings, or is of another model.
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
                for key in file.keys():  # noqa: SIM118  (safe_open is no dictionary)
                    group, index, _ = key.split("/", 2)
                    groups[group][int(index)] = file.get_tensor(key)
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is not a training checkpoint, or a damaged one: {error}.") from error
        return header, {group: [tensors[i] for i in sorted(tensors)] for group, tensors in groups.items()}


def _as_json(settings):
    return json.loads(json.dumps(settings))


def _variables(model):
    # By position, not by path: Keras numbers its automatic names through the process, and paths may repeat.
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
        raise ValueError(f"{path} is of a run with other settings, which can't be resumed: {'; '.join(different)}.")


def _check_shapes(group, variables, tensors):
    if len(variables) != len(tensors):
        raise ValueError(
            f"The checkpoint is of another {group}: it has {len(tensors)} variables where this one has "
            f"{len(variables)}."
        )
    for variable, tensor in zip(variables, tensors, strict=True):
        if tuple(variable.shape) != tensor.shape:
            raise ValueError(
                f"The checkpoint is of another {group}: {variable.path} has shape {tuple(variable.shape)} "
                f"here and {tensor.shape} there."
            )


def _assign(variables, tensors):
    for variable, tensor in zip(variables, tensors, strict=True):
        variable.assign(tensor)
