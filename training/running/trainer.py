"""Training of an image classifier that can be interrupted, continued exactly and repeated exactly."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vit.training.data import ImageData
from keras_vit.training.distribution.strategy import by_image, is_chief, shareable, synchronize, training_batches
from keras_vit.training.evaluation.averaging import EvaluateAverage
from keras_vit.training.objectives.distillation import distill
from keras_vit.training.objectives.scores import gives_logits
from keras_vit.training.running.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
from keras_vit.training.running.checkpoint import TrainingCheckpoint
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.running.progress import Progress
from keras_vit.training.running.run_folder import run_folder, write_description
from keras_vit.training.steps.recomputation import recompute, recomputes
from keras_vit.training.steps.sam import use_sam


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
    run_dir: str | Path,
    hyperparameters: Hyperparameters | None = None,
    teacher: keras.Model | None = None,
    recomputed: bool = False,
    synchronized: bool = True,
    from_logits: bool | None = None,
    seed: int = 0,
    deterministic: bool = True,
    checkpoint_steps: int = 500,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
    resume: bool = False,
    notes: Mapping | None = None,
    **changes,
) -> TrainingResult:
    """Trains a classifier by Keras' `model.fit`, and keeps the run in a folder.

    `fit(model, data, epochs=40, learning_rate=1e-3, run_dir="runs/mine")` trains with AdamW, a cosine schedule and
    cross-entropy; `Hyperparameters` describes everything else that can be asked for.

    The folder gets run.json (settings and versions), log.csv and tensorboard/ (one entry an epoch),
    best.keras (the model with the highest validation accuracy) and checkpoint.safetensors (everything needed
    to continue). The model itself is left with the last weights.

    The same data, starting weights and seed give the same result, on a CPU bit by bit. Call
    `keras.utils.set_random_seed` before you build the model to have the same starting weights.

    A model that was built under a strategy, see `training.strategy`, is trained under it, with batch
    normalization over the global batch. Of several workers the chief writes the run's folder; to resume, all of them
    must see it. When a worker is lost the others stop with an error: start all of them again with `resume`.

    Args:
        model: Any model with one input of images and one output of class scores; with a teacher, also a student with
            two outputs. Mixed precision is its dtype policy; where it computes in float16, the loss is scaled.
        data: Such as `digits()`.
        run_dir: A folder that does not exist yet or is empty; with `resume`, the folder of the run.
        hyperparameters: Such as those of a recipe; None are those of `changes`.
        teacher: A trained model that the student learns from besides, see `distill`.
        recomputed: Compute inner activations twice to save memory, see `recompute`.
        synchronized: Normalize batches over all replicas, see `synchronize`.
        from_logits: Whether the scores are logits rather than probabilities; None finds out from the last
            layer.
        seed: Sets the global seeds and the states of the model's SeedGenerators, so Dropout and stochastic
            depth. The data has its own.
        deterministic: Let TensorFlow use only operations that give the same result every time. It holds for
            the whole process from then on; on a GPU it costs speed.
        checkpoint_steps: Steps between two checkpoints within an epoch. There is one at each epoch's end as
            well.
        callbacks: Further Keras callbacks. Their own state is not part of the checkpoint.
        verbose: 1 shows a line that is renewed as the training goes, 2 a line for each epoch, "auto" is 1 on a
            terminal and else 2, 0 shows nothing.
        resume: Continue the run in `run_dir` at its last checkpoint, to the result it would have had.
        notes: Whatever else run.json shall say, in JSON's types.
        changes: Fields of `Hyperparameters`, in place of those of `hyperparameters`.

    Raises:
        ValueError: Model and data don't fit together, the kind of scores is unclear, a setting is out of
            range, the replicas can't share a batch equally, or the run to resume has other settings.
        FileExistsError: `run_dir` holds something and `resume` is off.
        FileNotFoundError: There is nothing to resume.
        RuntimeError: Another process is training in `run_dir`.
        OSError: `run_dir` can't be written.
        FloatingPointError: The loss or a weight became NaN or infinite. The checkpoint on disk is an earlier,
            sound one.
    """
    run_dir = Path(run_dir)
    if hyperparameters is None:
        hyperparameters = Hyperparameters(**changes)
    else:
        hyperparameters = dataclasses.replace(hyperparameters, **changes)
    strategy = model.distribute_strategy
    if data.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"{strategy.num_replicas_in_sync} replicas can't share a batch of {data.batch_size} images equally; "
            "take a batch size that is a multiple of them."
        )
    heads = _check_scores(model, data, has_teacher=teacher is not None)
    if from_logits is None:
        from_logits = heads > 1 or gives_logits(model)
    if hyperparameters.loss == "sigmoid" and not from_logits:
        raise ValueError(
            f"The sigmoid loss takes logits, and {model.name} gives probabilities; build it with "
            "classifier_activation=None."
        )
    with strategy.scope():
        optimizer = hyperparameters.make_optimizer(model, data.batch_size, data.steps_per_epoch)
    settings = {
        **dataclasses.asdict(hyperparameters),
        "teacher": None if teacher is None else teacher.name,
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

    with run_folder(run_dir, checkpoint.path, resume) if is_chief(model) else contextlib.nullcontext():
        keras.utils.set_random_seed(seed)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        if strategy.num_replicas_in_sync > 1 and synchronized:
            synchronize(model)
        with strategy.scope():
            if "float16" in settings["compute_dtypes"]:
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            model.compile(
                optimizer,
                hyperparameters.make_loss(from_logits),
                metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            )
        if recomputed and not recomputes(model):
            recompute(model)
        if teacher is not None:
            distill(
                model,
                teacher,
                kind=hyperparameters.distillation,
                weight=hyperparameters.distillation_weight,
                temperature=hyperparameters.distillation_temperature,
                from_logits=from_logits,
            )
        if hyperparameters.sam is not None:
            use_sam(model, hyperparameters.sam, adaptive=hyperparameters.sam_adaptive)
        # Keras makes metrics and optimizer variables when it first needs them, and a checkpoint needs them now.
        # Made-up images do, and leave no half-read dataset behind: TensorFlow waits for its threads to end when it lets
        # go of one, and where these wait for Python in turn, they wait for ever.
        model.evaluate(_blank_batch(data), verbose=0)
        with strategy.scope():
            model.optimizer.build(model.trainable_variables)
        if resume:
            epoch, step = checkpoint.restore(model)
        else:
            epoch, step = 0, 0
            _seed_generators(model, seed)
            if is_chief(model):
                write_description(run_dir / "run.json", settings, dict(notes or {}))
            checkpoint.write(model, epoch, step)

        total_steps = hyperparameters.total_steps(data.steps_per_epoch)
        epochs = math.ceil(total_steps / data.steps_per_epoch)
        progress = Progress(
            data.batch_size, epochs, data.steps_per_epoch, total_steps, verbose if is_chief(model) else 0
        )
        measured = [EvaluateAverage()] if hyperparameters.ema_decay is not None else []
        ours = [*measured, StopAtNonFiniteLoss(), progress, best, log, checkpoint]
        _fit_epochs(model, data, epoch, step, total_steps, [*ours, *callbacks])
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


def _fit_epochs(model, data, epoch, step, total_steps, callbacks):
    # One call of `fit` an epoch: each epoch has its own dataset, and the first one may begin in the middle.
    epochs = math.ceil(total_steps / data.steps_per_epoch)
    run = _RunCallbacks(
        list(callbacks), add_history=True, model=model, verbose=0, epochs=epochs, steps=data.steps_per_epoch
    )
    run.begin_run()
    try:
        for current in range(epoch, epochs):
            run.first_step = step
            last = min(data.steps_per_epoch, total_steps - current * data.steps_per_epoch)
            model.fit(
                training_batches(data, current, step, last, model.distribute_strategy),
                # Under a strategy, Keras makes a step too many where it doesn't know how many there are.
                steps_per_epoch=last - step,
                validation_data=shareable(data.validation, model.distribute_strategy),
                shuffle=False,
                initial_epoch=current,
                epochs=current + 1,
                callbacks=run,
                verbose=0,
            )
            step = 0
            if model.stop_training:
                break
    finally:
        run.end_run()


def _blank_batch(data):
    images, labels = tf.zeros((data.batch_size, *data.input_shape)), tf.one_hot([0] * data.batch_size, data.classes)
    return by_image(tf.data.Dataset.from_tensors((images, labels)))


def _check_scores(model, data, has_teacher):
    """The number of the model's outputs."""
    try:
        scores = model(tf.zeros((1, *data.input_shape)), training=False)
    except ValueError as error:
        raise ValueError(f"{model.name} does not take images of shape {data.input_shape}: {error}") from error
    heads = keras.tree.flatten(scores)
    expected = (1, data.classes)
    if any(tuple(head.shape) != expected for head in heads) or (isinstance(scores, dict) or len(heads) > 2):
        raise ValueError(
            f"The data has {data.classes} classes, so for one image {model.name} must give scores of shape "
            f"{expected}; it gives {', '.join(str(tuple(head.shape)) for head in heads)}."
        )
    if len(heads) == 2 and not has_teacher:
        raise ValueError(
            f"{model.name} has two outputs, of which the second learns from a teacher: give one to learn from, or "
            "train a model without the distillation token."
        )
    return len(heads)


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
