"""Train an image classifier in a run that can be resumed and reproduced exactly."""

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_vit.models.classes import class_names as class_names_of
from keras_vit.models.classes import set_class_names
from keras_vit.training.data import ImageData
from keras_vit.training.data.image_data import only_count
from keras_vit.training.data.keras_data import as_image_data, wrong_labels_as_value_errors
from keras_vit.training.data.notes import examples, note
from keras_vit.training.data.range_check import RangeCheck
from keras_vit.training.distribution.strategy import by_image, is_chief, shareable, synchronize, training_batches
from keras_vit.training.evaluation.averaging import EvaluateAverage
from keras_vit.training.objectives.scores import gives_logits
from keras_vit.training.running.callbacks import BestModel, EpochLog, StopAtNonFiniteLoss
from keras_vit.training.running.checkpoint import TrainingCheckpoint
from keras_vit.training.running.determinism import deterministic_operations
from keras_vit.training.running.hyperparameters import LOSSES, Hyperparameters
from keras_vit.training.running.objective import own_objective
from keras_vit.training.running.progress import Progress
from keras_vit.training.running.run_folder import run_folder, write_description
from keras_vit.training.steps.distillation import distill
from keras_vit.training.steps.recomputation import recompute
from keras_vit.training.steps.sam import use_sam
from keras_vit.utils.plain import plain
from keras_vit.utils.retracing import no_retracing_warnings


@dataclass(frozen=True)
class TrainingResult:
    """The result of `fit`.

    Attributes:
        history: One dictionary per epoch, as in log.csv, with "epoch", "learning_rate", "loss", "accuracy", "val_loss"
            and "val_accuracy".
        best_model: The path of the saved model with the highest validation accuracy, or the lowest validation loss if
            the model has its own loss.
        run_dir: The folder of the run.
    """

    history: list[dict]
    best_model: Path
    run_dir: Path


def fit(
    model: keras.Model,
    data: ImageData | tf.data.Dataset | keras.utils.PyDataset | tuple[np.ndarray, np.ndarray],
    *,
    run_dir: str | Path,
    hyperparameters: Hyperparameters | None = None,
    validation_data: tf.data.Dataset | keras.utils.PyDataset | tuple[np.ndarray, np.ndarray] | None = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    class_names: Sequence[str] | None = None,
    class_weight: Mapping[int | str, float] | None = None,
    loss: str | keras.losses.Loss | Callable | None = None,
    metrics: Sequence[str | keras.metrics.Metric] | None = None,
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
    """Train a model with Keras' `model.fit`, and save the run in a folder.

    `fit(model, data, epochs=40, learning_rate=1e-3, run_dir="runs/mine")` trains with AdamW, a cosine schedule and
    cross-entropy. See `Hyperparameters` for all other settings.

    The folder contains run.json (settings and versions), log.csv and tensorboard/ (one entry per epoch), best.keras
    (the model with the highest validation accuracy) and checkpoint.safetensors (everything needed to resume). After
    `fit`, the model has the weights of the last step, and it knows the class names of the data (see
    `keras_vit.class_names`). If it knew them before, in another order, the labels are matched by name.

    The same data, initial weights and seed give the same result; on a CPU, it is identical bit by bit. Call
    `keras.utils.set_random_seed` before you build the model to get the same initial weights.

    A model that was built under a strategy (see `training.strategy`) is trained under it, with batch normalization over
    the global batch. With several workers, the chief writes the folder, and all workers must have access to it to
    resume. If a worker fails, the others stop with an error; restart all of them with `resume`.

    Args:
        model: A model with one input of images and one output of class scores. With a teacher, a student with two
            outputs works too. With its own loss (see `loss`), it may have any inputs and outputs. Its dtype policy
            determines mixed precision. If a layer computes in float16, the loss is scaled.
        data: The images, such as `digits()`. They are normalized as the model takes them; see `ImageData.for_model`. Or
            what Keras' `fit` takes, with images that are used as they are: a dataset of batches (images, labels), also
            from `keras.utils.image_dataset_from_directory`; a `PyDataset`; or arrays (images, labels). Labels are class
            numbers or one-hot. Resuming within an epoch is exact only if such a dataset gives the same batches again.
        run_dir: A folder that is empty or does not exist yet. With `resume`, the folder of the run.
        hyperparameters: The hyperparameters, such as those of a recipe. By default, they are created from `changes`.
        validation_data: The validation images, if `data` is not image data, which contains them. Without them, the
            best model is the one with the highest training accuracy.
        batch_size: The number of images in a batch, for arrays; 32 by default.
        steps_per_epoch: The number of batches in an epoch, for a dataset whose number of batches is not known. An epoch
            continues where the one before it ended.
        class_names: The names of the classes, for data without names.
        class_weight: The weight of the loss of each class, by its name or number.
        loss: The loss of a model that is not a classifier with one class per image, such as "mse" or
            `keras.losses.BinaryCrossentropy()`, with labels as they are. A model that is compiled with such a loss
            keeps it, and its metrics. "softmax" and "sigmoid" are those of `Hyperparameters`, for a classifier.
        metrics: Metrics in addition to the accuracy, or those for `loss`.
        teacher: A trained model for the model to learn from, see `distill`.
        recomputed: Whether to save memory by computing inner activations twice, see `recompute`.
        synchronized: Whether batch normalization uses the statistics of all replicas, see `synchronize`.
        from_logits: Whether the scores are logits rather than probabilities. By default, the last layer decides.
        seed: The seed of the global random generators and of the model's SeedGenerators, which dropout and stochastic
            depth use. The data has its own seed.
        deterministic: Whether TensorFlow only uses deterministic operations. This applies to the whole process until
            `fit` ends, and makes training slower on a GPU.
        checkpoint_steps: The number of steps between two checkpoints within an epoch. There is also a checkpoint at the
            end of each epoch.
        callbacks: Further Keras callbacks. Their states are not part of the checkpoint. Those that set the learning
            rate, such as `ReduceLROnPlateau`, need schedule="constant" without a warm-up.
        verbose: 1 updates a line during training, 2 prints a line per epoch, and 0 prints nothing. "auto" means 1 on a
            terminal and 2 otherwise.
        resume: Whether to continue the run in `run_dir` from its last checkpoint. The result is the same as without
            the interruption.
        notes: Further JSON-serializable entries of run.json.
        changes: Fields of `Hyperparameters`. They take precedence over `hyperparameters`.

    Returns:
        The history, and the paths of the best model and of the folder.

    Raises:
        TypeError: If the data is not of a kind that is described above.
        ValueError: If the model does not match the data or takes images in another range, nothing in it is trainable,
            it is unclear whether the scores are logits, a setting is out of range, the replicas can't share a batch
            equally, or the run to resume has other settings.
        FileExistsError: If `run_dir` is not empty and `resume` is False.
        FileNotFoundError: If there is no checkpoint to resume from.
        RuntimeError: If another process is training in `run_dir`.
        OSError: If `run_dir` can't be written.
        ImportError: If a package of the "train" extra is not installed.
        FloatingPointError: If the loss or a weight becomes NaN or infinite. The checkpoint on disk remains valid.
    """
    if loss in LOSSES:
        changes["loss"], loss = loss, None
    if hyperparameters is None:
        hyperparameters = Hyperparameters(**changes)
    else:
        hyperparameters = dataclasses.replace(hyperparameters, **changes)
    seed, checkpoint_steps = plain(seed), plain(checkpoint_steps)
    objective = own_objective(model, loss, metrics)
    if objective is not None and teacher is not None:
        raise ValueError(f"A model with its own loss can't learn from a teacher; the loss is {objective.names!r}.")
    data = as_image_data(
        model,
        data,
        validation_data,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        class_names=class_names,
        classify=objective is None,
        seed=seed,
    )
    range_check = RangeCheck(model)
    data = range_check.data(data.for_model(model))
    if objective is None:
        data = _with_class_names(model, data)
    if class_weight:
        data = data.weighted(class_weight)
    run = _Run(model, data, Path(run_dir), hyperparameters, objective, seed=seed, deterministic=deterministic)
    run.check(teacher, from_logits, callbacks)
    if class_weight:
        run.settings["class_weight"] = {str(key): float(weight) for key, weight in class_weight.items()}
    run.make_callbacks(checkpoint_steps)
    with run.folder(resume), deterministic_operations(deterministic), no_retracing_warnings():
        keras.utils.set_random_seed(seed)
        run.compile(synchronized, metrics)
        run.prepare_step(teacher, recomputed)
        run.create_variables()
        epoch, step = run.resume() if resume else run.start(notes)
        with range_check.errors(on_error=run.discard_if_untrained):
            run.loop(epoch, step, [range_check, *callbacks], verbose)
    return TrainingResult(history=run.log.rows, best_model=run.best.path, run_dir=run.run_dir)


class _Run:
    """One call of `fit`. The methods are its phases, in the order in which `fit` calls them."""

    def __init__(self, model, data, run_dir, hyperparameters, objective, *, seed, deterministic):
        self.model, self.data, self.run_dir, self.hyperparameters = model, data, run_dir, hyperparameters
        self.objective = objective
        self.seed, self.deterministic = seed, deterministic
        self.trained = False
        self.strategy = model.distribute_strategy
        self.total_steps = hyperparameters.total_steps(data.steps_per_epoch)
        self.epochs = math.ceil(self.total_steps / data.steps_per_epoch)

    def check(self, teacher, from_logits, callbacks):
        """Check that the arguments are consistent, and collect the settings that determine the result."""
        model, data, replicas = self.model, self.data, self.strategy.num_replicas_in_sync
        if data.batch_size % replicas:
            raise ValueError(
                f"{replicas} replicas can't share a batch of {data.batch_size} images equally; use a batch size that "
                f"is a multiple of {replicas}."
            )
        if self.objective is None:
            from_logits = self._check_scores(teacher, from_logits)
        self.from_logits = from_logits
        _check_trainable(model)
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
        if self.objective is not None:
            self.settings["loss"] = self.objective.names
        _check_callbacks(callbacks, self.optimizer, self.hyperparameters)

    def _check_scores(self, teacher, from_logits):
        """Check that the model returns scores for the classes, and return whether they are logits."""
        heads = _count_outputs(self.model, self.data, has_teacher=teacher is not None)
        if from_logits is None:
            from_logits = heads > 1 or gives_logits(self.model)
        if self.hyperparameters.loss == "sigmoid" and not from_logits:
            raise ValueError(
                f"The sigmoid loss takes logits, but {self.model.name} returns probabilities; build it with "
                "classifier_activation=None."
            )
        return from_logits

    def make_callbacks(self, checkpoint_steps):
        compared = ("loss",) if self.objective is not None else ("accuracy", "loss")
        if self.data.validation is not None:
            compared = tuple(f"val_{name}" for name in compared)
        self.best = BestModel(self.run_dir / "best.keras", compared)
        self.log = EpochLog(self.run_dir / "log.csv", self.run_dir / "tensorboard")
        path = self.run_dir / "checkpoint.safetensors"
        self.checkpoint = TrainingCheckpoint(path, checkpoint_steps, self.settings, states_of=(self.best, self.log))

    def folder(self, resume):
        """Lock the folder of the run for this process. With several workers, only the chief does this."""
        if is_chief(self.model):
            return run_folder(self.run_dir, self.checkpoint.path, resume)
        return contextlib.nullcontext()

    def compile(self, synchronized, metrics):
        if self.strategy.num_replicas_in_sync > 1 and synchronized:
            synchronize(self.model)
        with self.strategy.scope():
            if "float16" in self.settings["compute_dtypes"]:
                self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
            if self.objective is not None:
                self.objective.compile(self.model, self.optimizer)
                return
            self.model.compile(
                self.optimizer,
                self.hyperparameters.make_loss(self.from_logits),
                metrics=[keras.metrics.CategoricalAccuracy(name="accuracy"), *(metrics or ())],
            )

    def prepare_step(self, teacher, recomputed):
        """Add recomputation, distillation and SAM to the model's training step, as requested."""
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
        """Create the variables of the metrics and of the optimizer, so that a checkpoint can save or restore them."""
        # A blank batch is used, because reading only one batch of the data could cause a deadlock: to release a
        # partly read dataset, TensorFlow waits for its threads, which in turn may wait for Python.
        self.model.evaluate(_blank_batch(self.data, own=self.objective is not None), verbose=0)
        with self.strategy.scope():
            self.model.optimizer.build(self.model.trainable_variables)

    def resume(self):
        """Restore the checkpoint, and return the epoch, and the step within it, at which to continue."""
        self.trained = True
        return self.checkpoint.restore(self.model)

    def start(self, notes):
        """Write the initial files, and return the epoch and the step at which to start."""
        _seed_generators(self.model, self.seed)
        if is_chief(self.model):
            names = None if self.objective is not None else self.data.class_names
            write_description(self.run_dir / "run.json", self.settings, {"class_names": names, **(notes or {})})
        self.checkpoint.write(self.model, 0, 0)
        return 0, 0

    def discard_if_untrained(self):
        """Delete the files of a run without a single step, so that its folder can be used again."""
        if not self.trained and is_chief(self.model):
            for path in (self.run_dir / "run.json", self.checkpoint.path):
                path.unlink()
            shutil.rmtree(self.log.tensorboard_dir)

    def loop(self, epoch, step, callbacks, verbose):
        """Train from the given epoch, and the step within it, to the end."""
        model, data, steps = self.model, self.data, self.data.steps_per_epoch
        # The optimizer's counter does not tell: Keras increments it even if there is no batch.
        at_step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: setattr(self, "trained", True))
        progress = Progress(data.batch_size, self.epochs, steps, self.total_steps, verbose if is_chief(model) else 0)
        average = [EvaluateAverage()] if self.hyperparameters.ema_decay is not None else []
        run = _RunCallbacks(
            # The checkpoint comes last, so that it contains what the other callbacks change, such as the learning rate.
            [at_step, *average, StopAtNonFiniteLoss(), progress, self.best, self.log, *callbacks, self.checkpoint],
            add_history=True,
            model=model,
            verbose=0,
            epochs=self.epochs,
            steps=steps,
        )
        run.begin_run()
        try:
            # `model.fit` is called once per epoch: each epoch has its own dataset, and the first may start midway.
            for current in range(epoch, self.epochs):
                run.first_step = step
                last = min(steps, self.total_steps - current * steps)
                with wrong_labels_as_value_errors():
                    model.fit(
                        training_batches(data, current, step, last, self.strategy),
                        # Without this, Keras runs one step too many under a strategy.
                        steps_per_epoch=last - step,
                        validation_data=data.validation and shareable(data.validation, self.strategy),
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
    """Callbacks that see a single training run with its actual step numbers, although `fit` is called every epoch."""

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


def _with_class_names(model, data):
    """Return the data with labels in the order of the model's class names, and give the model those of the data."""
    known = class_names_of(model)
    unnamed = only_count(data.class_names) and known is not None and len(known) == data.classes
    if known is not None and (unnamed or set(data.class_names) <= set(known)):
        return data.in_order(known)
    if {shape[-1] for shape in _output_shapes(model)} == {data.classes}:
        if known is not None and not only_count(known):
            note(f"{model.name} has the classes {examples(list(known))}; now it learns {examples(data.class_names)}.")
        set_class_names(model, data.class_names)
    return data


def _output_shapes(model):
    return [tuple(output.shape) for output in getattr(model, "outputs", None) or ()]


def _check_trainable(model):
    """Check that something in the model is trainable, and let the parts train that were thawed in a frozen model."""
    if not model.trainable and any(variable.trainable for variable in model.variables):
        # Keras takes no variable of a frozen model for trainable. Its setter would thaw all layers.
        model._trainable = True
    if not model.trainable_variables:
        raise ValueError(
            f"Nothing in {model.name} is trainable: all its layers are frozen. Set trainable = True for the layers to "
            "train, such as model.get_layer('head').trainable = True."
        )


def _check_callbacks(callbacks, optimizer, hyperparameters):
    for callback in callbacks:
        kinds = keras.callbacks.ReduceLROnPlateau | keras.callbacks.LearningRateScheduler
        if isinstance(callback, kinds) and not isinstance(optimizer._learning_rate, keras.Variable):
            warmup = hyperparameters.warmup_steps or hyperparameters.warmup_epochs
            raise ValueError(
                f"{type(callback).__name__} can't change the learning rate, which follows the schedule "
                f"{hyperparameters.schedule!r}{' with a warm-up' if warmup else ''}. Pass schedule='constant' and no "
                "warm-up, or leave the callback out."
            )


def _blank_batch(data, own=False):
    if own:
        spec = (data.train(0, 0) if data.validation is None else data.validation).element_spec
        blank = keras.tree.map_structure(
            lambda part: tf.zeros([data.batch_size, *part.shape[1:]], part.dtype),
            spec,
        )
    else:
        blank = tf.zeros((data.batch_size, *data.input_shape)), tf.one_hot([0] * data.batch_size, data.classes)
    return by_image(tf.data.Dataset.from_tensors(blank))


def _count_outputs(model, data, has_teacher):
    """Return the number of outputs of the model, after checking that they are class scores."""
    try:
        scores = model(tf.zeros((1, *data.input_shape)), training=False)
    except ValueError as error:
        raise ValueError(f"{model.name} does not take images of shape {data.input_shape}: {error}") from error
    heads = keras.tree.flatten(scores)
    expected = (1, data.classes)
    if any(tuple(head.shape) != expected for head in heads) or (isinstance(scores, dict) or len(heads) > 2):
        raise ValueError(
            f"The data has {data.classes} classes, so for one image {model.name} must return scores of shape "
            f"{expected}; it returns {', '.join(str(tuple(head.shape)) for head in heads)}. A model that is not a "
            "classifier needs its own loss: pass loss=... and metrics=[...]."
        )
    if len(heads) == 2 and not has_teacher:
        raise ValueError(
            f"{model.name} has two outputs, and the second one learns from a teacher: pass a teacher, or train a model "
            "without a distillation token."
        )
    return len(heads)


def _compute_dtypes(model):
    # The policy may have been set on the layers of a functional model rather than on the model.
    return {model.compute_dtype}.union(*map(_compute_dtypes, getattr(model, "layers", ())))


def _seed_generators(model, seed):
    weights = {id(variable) for variable in model.weights}
    states = [variable for variable in model.variables if id(variable) not in weights]
    # Use 31 bits, because some devices store random states as signed integers.
    numbers = np.random.SeedSequence(seed).generate_state(len(states)) >> 1
    for state, number in zip(states, numbers, strict=True):
        state.assign([number, 0])
