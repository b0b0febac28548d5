"""Training of an image classifier that can be interrupted, continued exactly and repeated exactly."""

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vit.files import replacing
from keras_vit.training.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
from keras_vit.training.checkpoint import TrainingCheckpoint
from keras_vit.training.data import ImageData
from keras_vit.training.optimizers import adamw
from keras_vit.training.strategy import by_image, is_chief, shareable, synchronize


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes:
        history: One dictionary an epoch, as in log.csv: epoch, learning_rate, loss, accuracy, val_loss,
            val_accuracy.
        best_model: Path of the saved model with the highest validation accuracy.
        run_dir: The run's folder.
    """

    history: list[dict]
    best_model: Path
    run_dir: Path


def fit(
    model: keras.Model,
    data: ImageData,
    *,
    epochs: int,
    run_dir: str | Path,
    learning_rate: float,
    weight_decay: float = 0.05,
    warmup_epochs: float = 0,
    label_smoothing: float = 0.1,
    clip_norm: float = 1.0,
    from_logits: bool | None = None,
    seed: int = 0,
    deterministic: bool = True,
    checkpoint_steps: int = 500,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
    resume: bool = False,
) -> TrainingResult:
    """Trains a classifier with `adamw`, cross-entropy and Keras' `model.fit`, and keeps the run in a folder.

    The folder gets run.json (settings and versions), log.csv and tensorboard/ (one entry an epoch),
    best.keras (the model with the highest validation accuracy) and checkpoint.safetensors (everything needed
    to continue). The model itself is left with the last weights.

    The same data, starting weights and seed give the same result, on a CPU bit by bit. Call
    `keras.utils.set_random_seed` before you build the model to have the same starting weights.

    A model that was built under a strategy, see `keras_vit.training.strategy`, is trained under it, with batch
    normalization over the global batch. Of several workers the chief writes the run's folder; to resume, all of them
    must see it. When a worker is lost the others stop with an error: start all of them again with `resume`.

    Args:
        model: Any model with one input of images and one output of class scores. Mixed precision is its
            dtype policy; where it computes in float16, the loss is scaled.
        data: Such as `digits()`.
        epochs: Epochs of the whole training; the learning rate falls to zero over them.
        run_dir: A folder that does not exist yet or is empty; with `resume`, the folder of the run.
        learning_rate: The highest one, reached after the warm-up.
        weight_decay: See `adamw`.
        warmup_epochs: Epochs in which the learning rate grows from zero.
        label_smoothing: Part of each label that is spread over all classes, in [0, 1). The validation loss
            has it too.
        clip_norm: See `adamw`.
        from_logits: Whether the scores are logits rather than probabilities; None finds out from the last
            layer.
        seed: Sets the global seeds and the states of the model's SeedGenerators, so Dropout and stochastic
            depth. The data has its own.
        deterministic: Let TensorFlow use only operations that give the same result every time. It holds for
            the whole process from then on; on a GPU it costs speed.
        checkpoint_steps: Steps between two checkpoints within an epoch. There is one at each epoch's end as
            well.
        callbacks: Further Keras callbacks. Their own state is not part of the checkpoint.
        verbose: Keras' progress bar: 0, 1, 2 or "auto".
        resume: Continue the run in `run_dir` at its last checkpoint, to the result it would have had.

    Raises:
        ValueError: Model and data don't fit together, the kind of scores is unclear, a setting is out of
            range, the replicas can't share a batch equally, or the run to resume has other settings.
        FileExistsError: `run_dir` holds something and `resume` is off.
        FileNotFoundError: There is nothing to resume.
        OSError: `run_dir` can't be written.
        FloatingPointError: The loss or a weight became NaN or infinite. The checkpoint on disk is an earlier,
            sound one.
    """
    run_dir = Path(run_dir)
    if epochs < 1:
        raise ValueError(f"Training takes at least 1 epoch; received epochs={epochs}.")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is at least 0 and below 1; received {label_smoothing}.")
    strategy = model.distribute_strategy
    if data.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"{strategy.num_replicas_in_sync} replicas can't share a batch of {data.batch_size} images equally; "
            "take a batch size that is a multiple of them."
        )
    _check_scores(model, data)
    if from_logits is None:
        from_logits = gives_logits(model)
    total_steps = epochs * data.steps_per_epoch
    with strategy.scope():
        optimizer = adamw(
            model,
            learning_rate,
            total_steps,
            round(warmup_epochs * data.steps_per_epoch),
            weight_decay=weight_decay,
            clip_norm=clip_norm,
        )
    settings = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup_epochs": warmup_epochs,
        "label_smoothing": label_smoothing,
        "clip_norm": clip_norm,
        "from_logits": from_logits,
        "seed": seed,
        "deterministic": deterministic,
        "parameters": model.count_params(),
        "compute_dtypes": sorted(_compute_dtypes(model)),
        "data": data.settings,
    }
    best = BestModel(run_dir / "best.keras")
    log = EpochLog(run_dir / "log.csv", run_dir / "tensorboard")
    checkpoint = TrainingCheckpoint(
        run_dir / "checkpoint.safetensors", checkpoint_steps, settings, states_of=(best, log)
    )
    if resume or is_chief(model):
        _check_run_dir(run_dir, checkpoint.path, resume)

    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if strategy.num_replicas_in_sync > 1:
        synchronize(model)
    with strategy.scope():
        if "float16" in settings["compute_dtypes"]:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(
            optimizer,
            keras.losses.CategoricalCrossentropy(from_logits=from_logits, label_smoothing=label_smoothing),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )
    # Keras makes metrics and optimizer variables when it first needs them, and a checkpoint needs them now.
    model.evaluate(shareable(data.validation.take(1), strategy), verbose=0)
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
    if resume:
        epoch, step = checkpoint.restore(model)
    else:
        epoch, step = 0, 0
        _seed_generators(model, seed)
        if is_chief(model):
            _write_json(run_dir / "run.json", {"settings": settings, "versions": _versions()})
        checkpoint.write(model, epoch, step)

    _fit_epochs(model, data, epoch, step, epochs, [StopAtNonFiniteLoss(), best, log, checkpoint, *callbacks], verbose)
    return TrainingResult(history=log.rows, best_model=best.path, run_dir=run_dir)


class _RunCallbacks(keras.callbacks.CallbackList):
    """Callbacks that see one training and its true steps, though Keras' `fit` is called once an epoch."""

    first_step = 0

    def on_train_begin(self, logs=None):
        pass

    def on_train_end(self, logs=None):
        pass

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(self.first_step + batch, logs)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(self.first_step + batch, logs)

    def begin_run(self):
        super().on_train_begin()

    def end_run(self):
        super().on_train_end()


def _fit_epochs(model, data, epoch, step, epochs, callbacks, verbose):
    # One call of `fit` an epoch: each epoch has its own dataset, and the first one may begin in the middle.
    if not is_chief(model):
        verbose = 0
    run = _RunCallbacks(
        list(callbacks),
        add_history=True,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=data.steps_per_epoch,
    )
    run.begin_run()
    try:
        for current in range(epoch, epochs):
            run.first_step = step
            model.fit(
                # Under a strategy, Keras makes a step too many where it doesn't know how many there are.
                by_image(data.train(current, step)).apply(
                    tf.data.experimental.assert_cardinality(data.steps_per_epoch - step)
                ),
                validation_data=shareable(data.validation, model.distribute_strategy),
                shuffle=False,
                initial_epoch=current,
                epochs=current + 1,
                callbacks=run,
            )
            step = 0
            if model.stop_training:
                break
    finally:
        run.end_run()


def gives_logits(model: keras.Model) -> bool:
    """Whether a model's scores are logits (True) or probabilities (False), by its last operation.

    Raises:
        ValueError: The last operation is neither a softmax nor a layer with weights and no activation, or the
            model is neither functional nor sequential and does not say which its last one is.
    """
    # A functional model's operations are in the order of computation; its `layers` lack those of keras.ops.
    operations = model.layers if isinstance(model, keras.Sequential) else getattr(model, "operations", ())
    for last in reversed(operations):
        if isinstance(last, keras.Model):
            return gives_logits(last)
        activation = getattr(last, "activation", None)
        if activation is keras.activations.softmax or type(last).__name__ == "Softmax":
            return False
        if activation is not keras.activations.linear:
            break
        if last.weights:
            return True
    raise ValueError(
        f"The last operation of {model.name} does not tell whether its scores are logits or probabilities; "
        "pass from_logits=True or from_logits=False."
    )


def _check_scores(model, data):
    images, _ = next(iter(data.validation))
    try:
        scores = model(images[:1], training=False)
    except ValueError as error:
        raise ValueError(f"{model.name} does not take images of shape {data.input_shape}: {error}") from error
    if not keras.ops.is_tensor(scores) or tuple(scores.shape) != (1, data.classes):
        received = tuple(scores.shape) if keras.ops.is_tensor(scores) else type(scores).__name__
        raise ValueError(
            f"The data has {data.classes} classes, so for one image {model.name} must give scores of shape "
            f"{(1, data.classes)}; it gives {received}."
        )


def _check_run_dir(run_dir, checkpoint, resume):
    if resume:
        if not checkpoint.is_file():
            raise FileNotFoundError(f"{run_dir} holds no {checkpoint.name} to resume from.")
        return
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        empty = not any(run_dir.iterdir())
    except OSError as error:
        raise OSError(f"{run_dir} can't hold a run ({error.strerror}); name another run_dir.") from error
    if not empty:
        raise FileExistsError(f"{run_dir} is not empty; pass resume=True to continue the run in it, or name another.")


def _compute_dtypes(model):
    # A functional model's own policy says nothing when only its layers were given one.
    return {model.compute_dtype}.union(*map(_compute_dtypes, getattr(model, "layers", ())))


def _seed_generators(model, seed):
    weights = {id(variable) for variable in model.weights}
    states = [variable for variable in model.variables if id(variable) not in weights]
    # 31 bits, since some devices' random state is of signed integers.
    numbers = np.random.SeedSequence(seed).generate_state(len(states)) >> 1
    for state, number in zip(states, numbers, strict=True):
        state.assign([number, 0])


def _versions():
    versions = {name: importlib.metadata.version(name) for name in ("keras", "tensorflow", "keras-vit")}
    return {"python": platform.python_version(), **versions}


def _write_json(path, content):
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
