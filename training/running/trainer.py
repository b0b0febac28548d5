"""Train an image classifier in a run that can be interrupted, continued exactly and repeated exactly."""

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
from keras_vit.training.objectives.scores import gives_logits
from keras_vit.training.running.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
from keras_vit.training.running.checkpoint import TrainingCheckpoint
from keras_vit.training.running.determinism import deterministic_operations
from keras_vit.training.running.hyperparameters import Hyperparameters
from keras_vit.training.running.progress import Progress
from keras_vit.training.running.run_folder import run_folder, write_description
from keras_vit.training.steps.distillation import distill
from keras_vit.training.steps.recomputation import recompute
from keras_vit.training.steps.sam import use_sam
from keras_vit.utils.retracing import no_retracing_warnings


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

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
    """Train a classifier by Keras' `model.fit`, and keep the run in a folder.

    `fit(model, data, epochs=40, learning_rate=1e-3, run_dir="runs/mine")` trains with AdamW, a cosine schedule and
    cross-entropy; `Hyperparameters` has all other settings.

    The folder gets run.json (settings and versions), log.csv and tensorboard/ (one entry an epoch), best.keras (the
    model with the highest validation accuracy) and checkpoint.safetensors (everything needed to continue). The model
    itself ends with the last weights.

    The same data, starting weights and seed give the same result, bit by bit on a CPU. Call
    `keras.utils.set_random_seed` before you build the model to get the same starting weights.

    A model that was built under a strategy, see `training.strategy`, is trained under it, with batch normalization over
    the global batch. With several workers, the chief writes the run's folder; to resume, all of them must see it. When
    a worker is lost the others stop with an error: restart all of them with `resume`.

    Args:
        model: Any model with one input of images and one output of class scores; with a teacher, also a student with
            two outputs. Its dtype policy sets mixed precision; if it computes in float16, the loss is scaled.
        data: Images, such as `digits()`.
        run_dir: A folder that does not exist yet or is empty; with `resume`, the folder of the run.
        hyperparameters: Settings, such as those of a recipe. By default they are made of `changes`.
        teacher: A trained model that the student also learns from, see `distill`.
        recomputed: Save memory by computing inner activations twice, see `recompute`.
        synchronized: Normalize batches over all replicas, see `synchronize`.
        from_logits: Whether the scores are logits rather than probabilities. By default the last layer decides.
        seed: Sets the global seeds and the states of the model's SeedGenerators, so of dropout and stochastic depth.
            The data has its own seed.
        deterministic: Let TensorFlow use only operations that give the same result every time, in the whole process
            until `fit` ends. On a GPU this costs speed.
        checkpoint_steps: Steps between two checkpoints within an epoch. Each epoch ends with a checkpoint as well.
        callbacks: Further Keras callbacks. Their own state is not part of the checkpoint.
        verbose: 1 shows a line that is updated during training, 2 prints a line for each epoch, "auto" means 1 on a
            terminal and 2 elsewhere, 0 shows nothing.
        resume: Continue the run in `run_dir` from its last checkpoint, to the result it would have had.
        notes: Further entries of run.json, in JSON's types.
        changes: Fields of `Hyperparameters`, which replace those of `hyperparameters`.

    Returns:
        The history, and where the best model and the run are.

    Raises:
        ValueError: Model and data don't fit together, it is unclear whether the scores are logits, a setting is out of
            range, the replicas can't share a batch equally, or the run to resume has other settings.
        FileExistsError: `run_dir` is not empty and `resume` is off.
        FileNotFoundError: There is nothing to resume.
        RuntimeError: Another process is training in `run_dir`.
        OSError: `run_dir` can't be written.
        FloatingPointError: The loss or a weight became NaN or infinite. The checkpoint on disk is an earlier, valid
            one.
    """
    if hyperparameters is None:
        hyperparameters = Hyperparameters(**changes)
    else:
        hyperparameters = dataclasses.replace(hyperparameters, **changes)
    run = _Run(model, data, Path(run_dir), hyperparameters, seed=seed, deterministic=deterministic)
    run.check(teacher, from_logits)
    run.make_callbacks(checkpoint_steps)
    with run.folder(resume), deterministic_operations(deterministic), no_retracing_warnings():
        keras.utils.set_random_seed(seed)
        run.compile(synchronized)
        run.prepare_step(teacher, recomputed)
        run.create_variables()
        epoch, step = run.resume() if resume else run.start(notes)
        run.loop(epoch, step, callbacks, verbose)
    return TrainingResult(history=run.log.rows, best_model=run.best.path, run_dir=run.run_dir)


class _Run:
    """One call of `fit`: its methods are its phases, in the order in which `fit` calls them."""

    def __init__(self, model, data, run_dir, hyperparameters, *, seed, deterministic):
        self.model, self.data, self.run_dir, self.hyperparameters = model, data, run_dir, hyperparameters
        self.seed, self.deterministic = seed, deterministic
        self.strategy = model.distribute_strategy
        self.total_steps = hyperparameters.total_steps(data.steps_per_epoch)
        self.epochs = math.ceil(self.total_steps / data.steps_per_epoch)

    def check(self, teacher, from_logits):
        """Refuse what doesn't fit together, and collect the settings that decide the training."""
        model, data, replicas = self.model, self.data, self.strategy.num_replicas_in_sync
        if data.batch_size % replicas:
            raise ValueError(
                f"{replicas} replicas can't share a batch of {data.batch_size} images equally; use a batch size that "
                f"is a multiple of {replicas}."
            )
        heads = _count_outputs(model, data, has_teacher=teacher is not None)
        if from_logits is None:
            from_logits = heads > 1 or gives_logits(model)
        if self.hyperparameters.loss == "sigmoid" and not from_logits:
            raise ValueError(
                f"The sigmoid loss takes logits, and {model.name} gives probabilities; build it with "
                "classifier_activation=None."
            )
        self.from_logits = from_logits
        with self.strategy.scope():
            self.optimizer = self.hyperparameters.make_optimizer(model, data.batch_size, data.steps_per_epoch)
        self.settings = {
            **dataclasses.asdict(self.hyperparameters),
            "teacher": None if teacher is None else teacher.name,
            "from_logits": from_logits,
            "seed": self.seed,
            "deterministic": self.deterministic,
            "parameters": model.count_params(),
            "compute_dtypes": sorted(_compute_dtypes(model)),
            "data": data.settings,
        }

    def make_callbacks(self, checkpoint_steps):
        self.best = BestModel(self.run_dir / "best.keras")
        self.log = EpochLog(self.run_dir / "log.csv", self.run_dir / "tensorboard")
        path = self.run_dir / "checkpoint.safetensors"
        self.checkpoint = TrainingCheckpoint(path, checkpoint_steps, self.settings, states_of=(self.best, self.log))

    def folder(self, resume):
        """Hold the run's folder for this process; of several workers, the chief alone does."""
        if is_chief(self.model):
            return run_folder(self.run_dir, self.checkpoint.path, resume)
        return contextlib.nullcontext()

    def compile(self, synchronized):
        if self.strategy.num_replicas_in_sync > 1 and synchronized:
            synchronize(self.model)
        with self.strategy.scope():
            if "float16" in self.settings["compute_dtypes"]:
                self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
            self.model.compile(
                self.optimizer,
                self.hyperparameters.make_loss(self.from_logits),
                metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            )

    def prepare_step(self, teacher, recomputed):
        """Add to the model's training step what this training asks for."""
        hyperparameters = self.hyperparameters
        if recomputed:
            recompute(self.model)
        if teacher is not None:
            distill(
                self.model,
                teacher,
                kind=hyperparameters.distillation,
                weight=hyperparameters.distillation_weight,
                temperature=hyperparameters.distillation_temperature,
                from_logits=self.from_logits,
            )
        if hyperparameters.sam is not None:
            use_sam(self.model, hyperparameters.sam, adaptive=hyperparameters.sam_adaptive)

    def create_variables(self):
        """Create metrics and the optimizer's variables, which a checkpoint holds, before Keras first needs them."""
        # By made-up images, which leave no half-read dataset behind: TensorFlow waits for its threads to end when it
        # releases one, and where these wait for Python in turn, they wait forever.
        self.model.evaluate(_blank_batch(self.data), verbose=0)
        with self.strategy.scope():
            self.model.optimizer.build(self.model.trainable_variables)

    def resume(self):
        """Return the epoch and the step in it at which the training continues."""
        return self.checkpoint.restore(self.model)

    def start(self, notes):
        """Return the epoch and the step in it at which the training starts."""
        _seed_generators(self.model, self.seed)
        if is_chief(self.model):
            write_description(self.run_dir / "run.json", self.settings, dict(notes or {}))
        self.checkpoint.write(self.model, 0, 0)
        return 0, 0

    def loop(self, epoch, step, callbacks, verbose):
        """Train from a step of an epoch to the end."""
        model, data, steps = self.model, self.data, self.data.steps_per_epoch
        progress = Progress(data.batch_size, self.epochs, steps, self.total_steps, verbose if is_chief(model) else 0)
        average = [EvaluateAverage()] if self.hyperparameters.ema_decay is not None else []
        run = _RunCallbacks(
            [*average, StopAtNonFiniteLoss(), progress, self.best, self.log, self.checkpoint, *callbacks],
            add_history=True,
            model=model,
            verbose=0,
            epochs=self.epochs,
            steps=steps,
        )
        run.begin_run()
        try:
            # One call of `model.fit` an epoch: each has its own dataset, and the first may begin in the middle.
            for current in range(epoch, self.epochs):
                run.first_step = step
                last = min(steps, self.total_steps - current * steps)
                model.fit(
                    training_batches(data, current, step, last, self.strategy),
                    # Under a strategy, Keras runs a step too many where it doesn't know how many there are.
                    steps_per_epoch=last - step,
                    validation_data=shareable(data.validation, self.strategy),
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


class _RunCallbacks(keras.callbacks.CallbackList):
    """Callbacks that see one training and its true step numbers, although `model.fit` is called once an epoch."""

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


def _blank_batch(data):
    images, labels = tf.zeros((data.batch_size, *data.input_shape)), tf.one_hot([0] * data.batch_size, data.classes)
    return by_image(tf.data.Dataset.from_tensors((images, labels)))


def _count_outputs(model, data, has_teacher):
    """Return the number of the model's outputs, which must be class scores."""
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
